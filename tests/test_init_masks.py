"""selftrain init: how masks are read, and what it asks about them."""

import numpy as np
from zoo_drawn import coloured, save, scene, settings_in, valued

from selftrain.inspection.init import init


def test_jpeg_masks_of_three_greys_are_read_by_the_nearest_value_after_a_question(selftrain, tmp_path):
    for i in range(6):
        image, ids = scene(i, 3)
        save(tmp_path / f"set/im/{i}.png", image)
        save(tmp_path / f"set/gt/{i}.jpg", valued(ids, [0, 127, 255]), quality=95)
    code, _, err = selftrain("init", "set", cwd=tmp_path)
    assert code == 2 and "JPEGs, whose compression mixes values" in err
    init(tmp_path / "set", tmp_path / "mine.yaml", first=True)
    found = settings_in(tmp_path / "mine.yaml")
    assert found["nearest"] is True and len(found["values"]) == 3
    assert np.allclose(found["values"], [0, 127, 255], atol=3)


def test_masks_of_0_1_and_255_are_a_question(selftrain, tmp_path):
    for i in range(6):
        image, ids = scene(i, 2, void=True)
        save(tmp_path / f"set/JPG/{i}.jpg", image)
        save(tmp_path / f"set/PNG/{i}.png", ids)
    code, _, err = selftrain("init", "set", cwd=tmp_path)
    assert code == 2 and "255 is ignored (the usual meaning)" in err and "255 is a class" in err


def numbered(root, values):
    """Ten masks of one 4x4 square for each value; the values are given by mask."""
    for i in range(10):
        image, mask = scene(i, 3)
        mask[:] = 0
        for place, value in enumerate(values(i)):
            row, column = divmod(place, 8)
            mask[5 * row : 5 * row + 4, 5 * column : 5 * column + 4] = value
        save(root / f"images/{i}.jpg", image)
        save(root / f"masks/{i}.png", mask)


def test_numbers_of_objects_are_no_classes_without_a_question(selftrain, tmp_path):
    numbered(tmp_path / "glands", lambda i: range(1, 4 + 2 * i))
    code, _, err = selftrain("init", tmp_path / "glands", cwd=tmp_path)
    assert code == 2 and "Nearly every one marks a single region." in err
    init(tmp_path / "glands", tmp_path / "glands.yaml", first=True)
    data = settings_in(tmp_path / "glands.yaml")
    assert data["classes"] == ["background", "foreground"] and data["threshold"] == 1


def test_sixty_numbers_in_few_masks_number_objects(tmp_path, capsys):
    dot = np.pad(np.ones((12, 12), np.uint8), 10)
    ids = np.kron(np.arange(64, dtype=np.uint8).reshape(8, 8), dot)  # 63 objects on a background
    rng = np.random.default_rng(0)
    for i in range(5):
        save(tmp_path / f"set/images/{i}.png", rng.integers(0, 256, (256, 256, 3), np.uint8))
        save(tmp_path / f"set/masks/{i}.png", ids)
    init(tmp_path / "set", tmp_path / "a.yaml", first=True)
    assert settings_in(tmp_path / "a.yaml")["classes"] == ["background", "foreground"]
    assert "not chosen: one class for each value" in capsys.readouterr().out


def test_organs_that_every_mask_contains_are_classes_first(tmp_path):
    numbered(tmp_path / "organs", lambda i: range(1, 9))
    init(tmp_path / "organs", tmp_path / "organs.yaml", first=True)
    assert len(settings_in(tmp_path / "organs.yaml")["classes"]) == 9


def test_more_numbers_of_objects_than_classes_are_one_class_as_well(tmp_path):
    numbered(tmp_path / "cells", lambda i: range(1 + 25 * i, 26 + 25 * i))
    init(tmp_path / "cells", tmp_path / "cells.yaml", first=True)
    assert settings_in(tmp_path / "cells.yaml")["threshold"] == 1


def test_rows_of_colours_name_numbers_after_a_question(tmp_path, capsys):
    for i in range(4):
        image, ids = scene(i, 3)
        save(tmp_path / f"data/images/{i}.jpg", image)
        save(tmp_path / f"data/masks/{i}.png", ids)
    (tmp_path / "data/class_dict.csv").write_text("name,r,g,b\nsoil,9,0,0\ngrass,0,9,0\nroof,0,0,9\n")
    init(tmp_path / "data", tmp_path / "data.yaml", first=True)
    assert settings_in(tmp_path / "data.yaml")["classes"] == ["soil", "grass", "roof"]
    assert "names colours, but the masks contain numbers." in capsys.readouterr().out


def test_palettes_that_differ_from_file_to_file_are_read_by_colour(tmp_path):
    table = np.zeros((256, 3), np.uint8)
    table[:3] = [(0, 0, 0), (250, 20, 20), (20, 20, 250)]
    truth = {}
    for i in range(6):
        image, ids = scene(i, 3)
        truth[i] = ids
        turned = i % 2 == 1  # in every second file, the indices 1 and 2 have changed places
        swapped = np.where(ids == 0, 0, 3 - ids).astype(np.uint8) if turned else ids
        save(tmp_path / f"set/im/{i}.png", image)
        save(
            tmp_path / f"set/gt/{i}.png",
            swapped,
            palette=table[[0, 2, 1, *range(3, 256)]] if turned else table,
        )
    init(tmp_path / "set", tmp_path / "mine.yaml", first=True)
    assert settings_in(tmp_path / "mine.yaml")["colours"] == [[0, 0, 0], [20, 20, 250], [250, 20, 20]]


def test_pictures_with_the_names_of_images_are_a_question(selftrain, tmp_path):
    for i in range(6):
        image, ids = scene(i, 3)
        save(tmp_path / f"set/left/{i}.png", image)
        save(tmp_path / f"set/grey/{i}.png", image.mean(axis=2).astype(np.uint8))
        save(tmp_path / f"set/gt/{i}.png", coloured(ids, [(0, 0, 0), (255, 0, 0), (0, 255, 0)]))
    code, _, err = selftrain("init", "set", cwd=tmp_path)
    assert code == 2
    assert "gt/0.png for grey/0.png" in err and "gt/0.png for left/0.png" in err
    assert "1  leave them out: they show the same" in err


# --- data=FILE.yaml
