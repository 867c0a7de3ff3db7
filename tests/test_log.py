from selftrain.log import Metrics, progress


def test_rewinding_forgets_later_rows_of_the_stage_and_a_torn_line(tmp_path):
    metrics = Metrics(tmp_path / "metrics.jsonl")
    for stage, step in (("gen0", 10), ("gen0", 20), ("gen1", 10), ("gen1", 20)):
        metrics.write(stage, step, {"loss": 1.0})
    with open(metrics.path, "a") as file:
        file.write('{"stage": "gen1", "st')
    metrics.rewind("gen1", 10)
    assert [(row["stage"], row["step"]) for row in metrics.rows()] == [
        ("gen0", 10),
        ("gen0", 20),
        ("gen1", 10),
    ]


def test_other_ranks_write_nothing(tmp_path):
    metrics = Metrics(None)
    metrics.write("gen0", 1, {"loss": 1.0})
    metrics.rewind("gen0", 0)
    metrics.sync()
    assert metrics.rows() == Metrics(tmp_path / "none.jsonl").rows() == []
    assert not list(tmp_path.iterdir())


def test_measurements_reach_a_tracker(tmp_path):
    metrics, seen = Metrics(tmp_path / "metrics.jsonl"), []
    metrics.track = lambda stage, step, values: seen.append((stage, step, dict(values)))
    metrics.write("gen0", 3, {"loss": 1.0})
    assert seen == [("gen0", 3, {"loss": 1.0})]


def test_plain_progress_ends_with_a_line_and_silence_is_silent(capsys):
    with progress("gen0", 2, per_step=4) as show:
        show(1, "loss 1.0")
        show(2, "loss 0.5")
    said = capsys.readouterr().out
    assert (
        said.count("\n") == 1
        and said.startswith("gen0  2/2  loss 0.5")
        and "images/s" in said
        and "left" in said
    )
    with progress("gen0", 2, show=False) as show:
        show(2)
    assert capsys.readouterr().out == ""
