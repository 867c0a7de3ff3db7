from pathlib import Path

from selftrain.report.summary import print_table


def test_paths_are_printed_as_they_are(capsys):
    report = {"generations": [], "test": None}
    print_table(report, Path("run [v1]/a[/b]/report.html"), Path("run [v1]/export"))
    assert "run [v1]/a[/b]/report.html" in capsys.readouterr().out
