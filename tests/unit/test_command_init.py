"""`init` writes a config that works; `validate` and `models` say what is there."""

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import typer
from typer.testing import CliRunner, Result

from modelyard.adapters.data.frames import infer_contract
from modelyard.adapters.data.sources import read_rows
from modelyard.commands.configs import register
from modelyard.config import load_model_file
from modelyard.domain.values import MLTask
from modelyard.errors import ConfigError, DataError, InvalidInputError

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("MODELYARD_DATA", ROOT.parent / "shared" / "data"))
N = 3_000


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "configs" / "models").mkdir(parents=True)
    shutil.copy(ROOT / "configs" / "platform.yaml", tmp_path / "configs")
    monkeypatch.setenv("MODELYARD_ROOT", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str) -> Result:
    app = typer.Typer()
    register(app)
    result = CliRunner().invoke(app, list(arguments))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def sales(folder: Path, name: str = "sales.csv") -> Path:
    rng = np.random.default_rng(3)
    frame = pd.DataFrame(
        {
            "order_id": np.arange(N) + 1_000,
            "at": pd.date_range("2023-01-01", periods=N, freq="h").strftime("%d/%m/%Y %H:%M"),
            "price": rng.normal(10, 2, N).round(2),
            "shop: no": rng.choice(["north", "south"], N),
            "paid": rng.choice(["true", "false"], N),
            "sold": rng.integers(0, 50, N),
        }
    )
    frame.to_csv(folder / name, index=False)
    return folder / name


def test_init_writes_a_config_that_validates_with_no_edit(project: Path) -> None:
    sales(project)
    result = run("init", "sales.csv", "--target", "sold")
    assert result.exit_code == 0
    config = load_model_file(project / "configs" / "models" / "sales.yaml")
    assert config.task is MLTask.REGRESSION
    assert config.data.source == "sales.csv"
    assert (config.data.id, config.data.time) == ("order_id", "at")
    assert config.data.time_format == "%d/%m/%Y %H:%M"
    assert config.data.features.numeric == ("price", "paid")
    assert config.data.features.categorical == ("shop: no",)
    # 24 rows a day: a week holds 168, which is below what a window needs.
    assert config.monitoring.window.days == 14
    assert "modelyard validate sales" in result.output
    validated = run("validate", "sales")
    assert "sales: 3,000 rows from 2023-01-01" in validated.output


def test_the_features_that_init_writes_are_the_ones_that_it_inferred(project: Path) -> None:
    sales(project)
    run("init", "sales.csv", "--target", "sold")
    config = load_model_file(project / "configs" / "models" / "sales.yaml")
    rows = read_rows(config.data, root=project, task=config.task)
    features = config.data.model_copy(update={"features": type(config.data.features)()})
    inferred = infer_contract(config.model_copy(update={"data": features}), rows)
    assert infer_contract(config, rows).contract == inferred.contract


def test_init_does_not_write_over_a_config_without_force(project: Path) -> None:
    sales(project)
    path = project / "configs" / "models" / "sales.yaml"
    path.write_text("name: mine\n", encoding="utf-8")
    with pytest.raises(InvalidInputError, match="is there already"):
        run("init", "sales.csv", "--target", "sold")
    assert path.read_text(encoding="utf-8") == "name: mine\n"
    run("init", "sales.csv", "--target", "sold", "--force")
    assert load_model_file(path).name == "sales"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("sales.csv", "--target", "Sold"), "Did you mean `sold`"),
        (("sales.csv", "--target", "sold", "--time", "when"), r"no column 'when' \(--time\)"),
        (("sales.csv", "--target", "sold", "--time", "price"), "cannot be read as ISO 8601"),
        (("sales.csv", "--target", "sold", "--id", "paid"), "repeats a value"),
        (("sale.csv", "--target", "sold"), "Did you mean `sales.csv`"),
        (("sales.csv", "--target", "at"), "neither numbers nor a hundred classes"),
        (("sales.csv", "--target", "sold", "--task", "binary_classification"), "needs 2"),
        (("sales.csv", "--target", "sold", "--name", "My Sales"), "--name my_sales"),
        (("empty.csv", "--target", "sold"), "is empty"),
    ],
)
def test_init_writes_nothing_when_the_input_is_bad(
    project: Path, arguments: tuple[str, ...], says: str
) -> None:
    sales(project)
    (project / "empty.csv").touch()
    with pytest.raises(InvalidInputError, match=says) as caught:
        run("init", *arguments)
    assert caught.value.exit_code == 2
    assert not list((project / "configs" / "models").iterdir())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("--target sold --time at --label-time at", "--label-time 'at': is --time already"),
        ("--target at --time at", "--time 'at': is --target already"),
        ("--target sold --id sold", "--id 'sold': is --target already"),
        ("--target sold --time order_id --id order_id", "--time 'order_id': is --id already"),
        ("--target sold --label-time at", "--label-time: needs --time"),
        ("--target sold --time-format %Q", "time format '%Q': 'Q' is a bad directive"),
        ("--target sold --time at --time-format %d/%d", "time format '%d/%d': redefinition"),
        ("--target sold --time at --time-format %", "time format '%': stray %"),
    ],
)
def test_options_that_cannot_be_meant_are_refused_by_their_names(
    project: Path, options: str, says: str
) -> None:
    sales(project)
    with pytest.raises(InvalidInputError, match=re.escape(says)) as caught:
        run("init", "sales.csv", *options.split())
    assert caught.value.exit_code == 2
    assert "pydantic" not in str(caught.value)
    assert not list((project / "configs" / "models").iterdir())


def test_init_does_not_take_the_label_time_for_the_event_time(project: Path) -> None:
    frame = pd.read_csv(sales(project)).drop(columns="order_id")
    frame.insert(0, "known_at", frame["at"])
    frame.to_csv(project / "late.csv", index=False)
    run("init", "late.csv", "--target", "sold", "--label-time", "known_at")
    config = load_model_file(project / "configs" / "models" / "late.yaml")
    assert (config.data.time, config.data.label_time) == ("at", "known_at")


def test_an_empty_option_is_refused_by_its_name(project: Path) -> None:
    sales(project)
    with pytest.raises(InvalidInputError, match=r"^--target: "):
        run("init", "sales.csv", "--target", "")


@pytest.mark.parametrize("cell", [[1, 2], {"a": 1}, b"\xff\x00"], ids=["list", "dict", "bytes"])
def test_init_names_a_parquet_column_that_holds_more_than_plain_cells(
    project: Path, cell: object
) -> None:
    frame = pd.read_csv(sales(project)).assign(extra=pd.Series([cell] * N))
    frame.to_parquet(project / "sales.parquet")
    with pytest.raises(DataError, match=r"column 'extra' holds .* turn it into plain columns"):
        run("init", "sales.parquet", "--target", "sold")


def test_a_date_that_can_be_read_in_two_ways_is_asked_about(project: Path) -> None:
    text = "day,x,y\n" + "".join(f"0{1 + i % 9}/0{1 + i % 7}/2024,{i},{i * i}\n" for i in range(99))
    (project / "days.csv").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=r"%d/%m/%Y and as %m/%d/%Y.*--time-format"):
        run("init", "days.csv", "--target", "y", "--time", "day")
    run("init", "days.csv", "--target", "y", "--time", "day", "--time-format", "%m/%d/%Y")
    config = load_model_file(project / "configs" / "models" / "days.yaml")
    assert config.data.time_format == "%m/%d/%Y"


def test_a_number_that_stands_for_no_value_is_found(project: Path) -> None:
    rng = np.random.default_rng(5)
    frame = pd.DataFrame({name: rng.normal(20, 5, 500).round(1) for name in "abcy"})
    frame.loc[::20, ["a", "b", "y"]] = -200.0
    frame.to_csv(project / "air.csv", index=False)
    run("init", "air.csv", "--target", "y")
    config = load_model_file(project / "configs" / "models" / "air.yaml")
    assert config.data.missing_values[-1] == "-200"
    assert read_rows(config.data, root=project)["y"].isna().sum() == 25


def test_validate_names_the_problems_of_all_models_at_once(project: Path) -> None:
    models = project / "configs" / "models"
    sales(project)
    run("init", "sales.csv", "--target", "sold")
    (models / "typo.yaml").write_text("name: typo\ntsk: regression\n", encoding="utf-8")
    text = (models / "sales.yaml").read_text(encoding="utf-8")
    wrong = text.replace("name: sales", "name: lost").replace("price,", "cost,")
    (models / "lost.yaml").write_text(wrong, encoding="utf-8")
    with pytest.raises(InvalidInputError) as caught:
        run("validate")
    message = str(caught.value)
    assert "configs/models/typo.yaml:2: tsk = 'regression': unknown key. Did you mean" in message
    assert "there is no column 'cost' (data.features.numeric)" in message

    result = run("validate", "--json")
    assert result.exit_code == 2
    shown = {model["name"]: model for model in json.loads(result.stdout)["models"]}
    assert shown["sales"]["problems"] == []
    assert shown["sales"]["rows"] == N
    assert shown["typo"]["problems"]
    assert shown["lost"]["problems"]

    with pytest.raises(InvalidInputError) as caught:
        run("validate", "--no-data")
    assert "cost" not in str(caught.value)


def test_validate_sees_slices_and_parameters_that_do_not_exist(project: Path) -> None:
    sales(project)
    run("init", "sales.csv", "--target", "sold")
    path = project / "configs" / "models" / "sales.yaml"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("slices: []", "slices: [shop]"), encoding="utf-8")
    with pytest.raises(InvalidInputError, match=r"no column 'shop' \(evaluation.slices\)"):
        run("validate", "sales")
    path.write_text(text.replace("params: {}", "params: {max_itr: 3}"), encoding="utf-8")
    with pytest.raises(InvalidInputError, match="max_itr") as caught:
        run("validate", "sales")
    assert caught.value.exit_code == 2


def test_models_lists_what_is_there_and_no_examples(project: Path) -> None:
    sales(project)
    run("init", "sales.csv", "--target", "sold")
    shutil.copytree(ROOT / "configs/models/examples", project / "configs/models/examples")
    listed = json.loads(run("models", "--json").stdout)["models"]
    assert [model["name"] for model in listed] == ["sales"]
    assert "sales" in run("models").output


def test_outside_of_a_project_the_commands_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELYARD_ROOT", str(tmp_path))
    with pytest.raises(ConfigError, match=r"No configs/platform.yaml"):
        run("models")


SETS = {
    "air_quality": ("CO(GT)", "timestamp", MLTask.REGRESSION),
    "bank_marketing": ("y", "contact_month", MLTask.BINARY),
    "beijing_pm25": ("pm2.5", "timestamp", MLTask.REGRESSION),
    "bike_sharing": ("cnt", "timestamp", MLTask.REGRESSION),
    "elec2": ("class", "timestamp", MLTask.BINARY),
    "hotel_resort": ("is_canceled", "booking_date", MLTask.BINARY),
    "metro_traffic": ("traffic_volume", "date_time", MLTask.REGRESSION),
    "noaa_weather": ("rain", None, MLTask.BINARY),
}


def found(name: str) -> Path:
    path = DATA / name / "data.csv.gz"
    if not path.is_file():
        message = f"no {path}; set MODELYARD_DATA to the folder of the data sets"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(message)
    return path


@pytest.mark.parametrize("name", SETS)
def test_init_on_real_data_writes_a_config_that_validates(project: Path, name: str) -> None:
    target, time, task = SETS[name]
    when = () if time is None else ("--time", time)
    run("init", str(found(name)), "--target", target, "--name", name, *when)
    config = load_model_file(project / "configs" / "models" / f"{name}.yaml")
    assert config.task is task
    assert run("validate", name).exit_code == 0
    leaks = {"casual", "registered", "reservation_status", "row_id", "instant", "booking_id", "No"}
    assert not leaks & {
        *(config.data.features.numeric or ()),
        *(config.data.features.categorical or ()),
    }


@pytest.mark.parametrize("name", ["bike_sharing", "elec2", "bank_marketing", "hotel_resort"])
def test_an_example_fits_its_real_data(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELYARD_DATA", str(found(name).parents[1]))
    config = load_model_file(ROOT / "configs" / "models" / "examples" / f"{name}.yaml")
    rows = read_rows(config.data, root=ROOT, task=config.task)
    contract, left_out = infer_contract(config, rows)
    # Every column of the file was thought about: a feature, a role, or dropped by name.
    roles = {config.data.id, config.data.time, config.data.label_time} - {None}
    assert set(left_out) == {*config.data.features.drop} | roles
    assert len(contract.columns) + len(left_out) + 1 == rows.shape[1]


def with_cell(folder: Path, column: str, text: str, row: int = 40) -> Path:
    frame = pd.read_csv(sales(folder), dtype=str)
    frame.loc[row, column] = text
    frame.to_csv(folder / "sales.csv", index=False)
    return folder / "sales.csv"


def test_a_number_column_with_one_bad_cell_is_named_with_the_cell_and_its_line(
    project: Path,
) -> None:
    with_cell(project, "price", "12,5O")
    said = " ".join(run("init", "sales.csv", "--target", "sold").output.split())
    assert "Column 'price' was left out" in said
    assert re.search(r"1 of 3,000: '12,5O' at \S*sales\.csv:42", said)


def test_a_target_with_one_bad_cell_does_not_become_classes(project: Path) -> None:
    with_cell(project, "sold", "n.n.")
    with pytest.raises(DataError, match=r"'n\.n\.' at \S*sales\.csv:42") as caught:
        run("init", "sales.csv", "--target", "sold")
    assert "--task" in str(caught.value)
    assert not list((project / "configs" / "models").iterdir())


def test_an_infinite_outcome_is_no_missing_one(project: Path) -> None:
    with_cell(project, "sold", "inf")
    with pytest.raises(DataError, match=r"infinite in 1 rows: 'inf' at \S*sales\.csv:42"):
        run("init", "sales.csv", "--target", "sold")
