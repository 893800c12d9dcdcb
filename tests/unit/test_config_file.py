"""A config file with mistakes is refused with every line, key, value and mend."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from modelyard.commands.configs import SchemaName, json_schema
from modelyard.config import (
    ModelConfig,
    load_model_config,
    load_model_file,
    load_platform_config,
)
from modelyard.domain.values import MLTask, ReplicaLimits
from modelyard.errors import ConfigError

ROOT = Path(__file__).parents[2]
SMALLEST = "name: m\ntask: regression\ndata: {source: x.csv, target: y}\n"


def written(folder: Path, text: str, name: str = "m") -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def refusal(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load_model_file(path)
    return str(caught.value)


def test_everything_but_name_task_source_and_target_has_a_default(tmp_path: Path) -> None:
    config = load_model_file(written(tmp_path, SMALLEST))
    assert config.training.estimator == "sklearn.ensemble.HistGradientBoostingRegressor"
    assert config.evaluation.primary_metric == "mae"
    assert config.service.rollout.strategy == "blue_green"


@pytest.mark.parametrize("task", list(MLTask))
def test_every_task_has_a_default_recipe_that_agrees_with_itself(
    tmp_path: Path, task: MLTask
) -> None:
    config = load_model_file(written(tmp_path, SMALLEST.replace("regression", task)))
    assert str(config.training.estimator).endswith(
        "Classifier" if task.is_classification else "Regressor"
    )


def test_a_part_of_a_section_keeps_the_defaults_of_the_rest(tmp_path: Path) -> None:
    text = SMALLEST + "training: {seed: 3}\nevaluation: {margin: 1%}\n"
    config = load_model_file(written(tmp_path, text))
    assert config.training.estimator is not None
    assert (config.evaluation.primary_metric, config.evaluation.margin) == ("mae", 0.01)


def test_limits_of_a_service_are_sizes_and_durations_and_todays_are_the_defaults(
    tmp_path: Path,
) -> None:
    text = SMALLEST + "service: {limits: {body: 64MiB, deadline: 5s, rows: 10}}\n"
    limits = load_model_file(written(tmp_path, text)).service.limits
    assert limits.of_a_replica() == ReplicaLimits(body_bytes=64 * 2**20, seconds=5.0, rows=10)
    usual = load_model_file(written(tmp_path, SMALLEST)).service.limits
    assert usual.of_a_replica() == ReplicaLimits()


def test_a_config_is_the_same_after_it_was_recorded_and_read(tmp_path: Path) -> None:
    config = load_model_file(written(tmp_path, SMALLEST + "monitoring: {window: 14d}\n"))
    assert ModelConfig.model_validate_json(config.model_dump_json()) == config
    assert config.model_dump(mode="json")["monitoring"]["window"] == "14d"


BAD_LINES = [
    (
        "monitoring:\n  windw: 1d\n",
        5,
        "monitoring.windw = '1d': unknown key. Did you mean `window`?",
    ),
    ("monitorng: {}\n", 4, "Did you mean `monitoring`?"),
    ("service: {target: dockr}\n", 4, "must be 'local' or 'docker'. Did you mean `docker`?"),
    ("service: {rollout: {strategy: canary}}\n", 4, "needs a gateway, which target: docker has"),
    ("service: {replicas: 0}\n", 4, "service.replicas = 0"),
    ("service: {limits: {body: 16}}\n", 4, "service.limits.body"),
    ("service: {limits: {body: 1GiB}}\n", 4, "service.limits.body"),
    ("service: {limits: {deadline: 2m}}\n", 4, "service.limits.deadline"),
    ("service: {limits: {queue: 0}}\n", 4, "service.limits.queue = 0"),
    ("service: {limits: {row: 5}}\n", 4, "Did you mean `rows`?"),
    ("training: {window: soon}\n", 4, "training.window = 'soon': is no duration"),
    ("training: {estimator: Ridge}\n", 4, "is no import path"),
    ("training: {pipeline: a.b.c}\n", 4, "names no function"),
    ("training: {estimator: a.B, pipeline: 'a:b'}\n", 4, "exclude each other"),
    ("training: {window: 7d}\n", 4, "needs data.time"),
    ("training: {half_life: 7d}\n", 4, "needs data.time"),
    ("retraining: {rows: since change}\n", 4, "needs data.time"),
    ("retraining: {max_kept: 0}\n", 4, "max_kept"),
    ("evaluation: {holdout: newest 7d}\n", 4, "needs data.time"),
    ("evaluation: {primary_metric: roc_auc}\n", 4, "is no metric of regression"),
    ("evaluation: {thresholds: {R2: {min: 0}}}\n", 4, "Did you mean `r2`?"),
    ("evaluation: {thresholds: {r2: {}}}\n", 4, "limits nothing"),
    ("evaluation: {thresholds: {r2: {min: 2, max: 1}}}\n", 4, "min 2 is above max 1"),
    ("evaluation: {slices: season}\n", 4, "must be a list"),
    ("monitoring: {schedule: every day}\n", 4, "is no cron schedule"),
    ("monitoring: {schedule: {every: 1s}}\n", 4, "write 10s or longer"),
    ("monitoring: {schedule: {}}\n", 4, "write one of cron, every and rrule"),
    ("retraining: {schedule: {cron: 0 3 * * 0, every: 1d}}\n", 4, "has cron and every"),
    ("retraining: {schedule: {rrule: FREQ=NEVER}}\n", 4, "is no recurrence rule (RFC 5545)"),
    (
        "retraining: {schedule: {rrule: FREQ=DAILY;BYYEARDAY=0}}\n",
        4,
        "never comes true",
    ),
    (
        "retraining: {schedule: {every: 1d, timezone: Europe/Berln}}\n",
        4,
        "is no time zone, like Europe/Berlin or UTC. Did you mean `Europe/Berlin`?",
    ),
    ("monitoring: {false_alarms: 1 in 1000}\n", 4, "1 per 1000 windows"),
    ("retraining: {on: [performance, drft]}\n", 4, "retraining.on[1] = 'drft'"),
    ("retraining: {windows: 5 of 2}\n", 4, "swap the numbers"),
    ("retraining: {budget: 3 a week}\n", 4, "3 per 7d"),
    ("alerts: [me@example.org]\n", 4, "is neither an Apprise URL"),
    ("training: 7\n", 4, "must hold `key: value` lines"),
]


@pytest.mark.parametrize(
    ("line", "number", "says"), BAD_LINES, ids=[b[0].strip() for b in BAD_LINES]
)
def test_a_wrong_line_is_refused_with_its_number_and_its_mend(
    tmp_path: Path, line: str, number: int, says: str
) -> None:
    message = refusal(written(tmp_path, SMALLEST + line))
    assert message.count("\n") == 0
    assert f"m.yaml:{number}: " in message
    assert says in message


BAD_DATA = [
    ("target: y, features: {numeric: [a, y]}", "data.features.numeric[1] = 'y': is the target"),
    ("target: y, features: {numeric: [a], categorical: [a]}", "features.numeric already"),
    ("target: y, id: k, features: {numeric: [k]}", "is data.id, no feature"),
    ("target: y, id: y", "is data.target already"),
    ("target: y, label_time: l", "needs data.time"),
    ("target: y, label_delay: 1d", "needs data.time"),
    ("target: y, time: t, label_time: l, label_delay: 1d", "say the same thing twice"),
    ("target: y, query: SELECT 1", "needs a SQLAlchemy URL"),
    ("target: y, positive: 'yes'", "means nothing for a regression"),
    ("target: 5", "must be text; put it in quotes"),
    ("traget: y", "data.target: is missing"),
]


@pytest.mark.parametrize(("data", "says"), BAD_DATA, ids=[b[0] for b in BAD_DATA])
def test_data_that_contradicts_itself_is_refused(tmp_path: Path, data: str, says: str) -> None:
    text = f"name: m\ntask: regression\ndata: {{source: x.csv, {data}}}\n"
    assert says in refusal(written(tmp_path, text))


def test_a_database_without_a_query_is_refused(tmp_path: Path) -> None:
    text = SMALLEST.replace("x.csv", "sqlite:///x.db")
    assert "write data.query" in refusal(written(tmp_path, text))


def test_a_window_of_fewer_rows_than_are_judged_is_refused(tmp_path: Path) -> None:
    counted = SMALLEST + "monitoring:\n  window: 50 rows\n"
    says = "monitoring.window = '50 rows': is never judged: windows with fewer than 200 rows"
    assert says in refusal(written(tmp_path, counted))
    written(tmp_path, counted + "  min_rows: 50\n")
    assert str(load_model_config(tmp_path, "m").monitoring.window) == "50 rows"


def test_all_problems_are_named_at_once_in_the_order_of_their_lines(tmp_path: Path) -> None:
    message = refusal(
        written(tmp_path, "name: M!\ntask: guess\ndata:\n  sorce: x.csv\nservice: {replicas: x}\n")
    )
    numbers = [int(n) for n in re.findall(r"m\.yaml:(\d+):", message)]
    assert numbers == sorted(numbers)
    assert numbers == [1, 2, 3, 3, 4, 5]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (SMALLEST + "name: other\n", ":4: name: stands twice"),
        ("name: [m\n", "is not YAML"),
        ("\tname: m\n", "is not YAML"),
        ("", "holds no keys"),
        ("- a\n", "holds no keys"),
        (SMALLEST.replace("name: m", "name: other"), "is not the file's name"),
    ],
)
def test_a_file_that_is_no_config_is_refused(tmp_path: Path, text: str, says: str) -> None:
    assert says in refusal(written(tmp_path, text))


def test_a_file_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_bytes(b"name: \xff\xfe\n")
    assert "is not UTF-8" in refusal(tmp_path / "m.yaml")


def test_a_variable_that_is_not_set_is_refused_with_its_line(tmp_path: Path) -> None:
    message = refusal(written(tmp_path, SMALLEST.replace("x.csv", "'${NOT_SET_HERE}/x.csv'")))
    assert "m.yaml:3: data.source = '${NOT_SET_HERE}/x.csv': needs the environment" in message


def test_an_unknown_model_is_answered_with_the_most_similar_name(tmp_path: Path) -> None:
    written(tmp_path, SMALLEST)
    written(tmp_path, SMALLEST.replace("name: m", "name: bikes"), "bikes")
    with pytest.raises(ConfigError, match=r"No model 'bike' .* Did you mean `bikes`\?"):
        load_model_config(tmp_path, "bike")


@pytest.mark.parametrize("name", ["../secret", "a/b", "", "examples/../../x", "/etc/passwd"])
def test_a_name_reaches_no_file_outside_of_the_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "models").mkdir()
    written(tmp_path, SMALLEST, "secret")
    with pytest.raises(ConfigError, match="No model"):
        load_model_config(tmp_path / "models", name)


def test_an_example_is_found_with_and_without_its_folder() -> None:
    folder = ROOT / "configs" / "models"
    assert load_model_config(folder, "elec2") == load_model_config(folder, "examples/elec2")


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "models").rglob("*.yaml")), ids=str)
def test_every_config_that_comes_with_the_project_is_right(path: Path) -> None:
    assert load_model_file(path).name == path.stem


def test_the_platform_config_that_comes_with_the_project_says_the_defaults() -> None:
    platform = load_platform_config(ROOT / "configs" / "platform.yaml")
    assert platform == type(platform)()


@pytest.mark.parametrize("name", list(SchemaName))
def test_the_published_schema_is_the_one_of_the_code(name: SchemaName) -> None:
    published = (ROOT / "docs" / "schema" / f"{name}.json").read_text(encoding="utf-8")
    assert json_schema(name) == published, f"modelyard validate --schema {name} > docs/schema/..."


def test_the_schema_asks_for_what_the_loader_asks_for() -> None:
    schema = json.loads(json_schema(SchemaName.MODEL))
    assert schema["required"] == ["name", "task", "data"]
    assert schema["$defs"]["Data"]["required"] == ["source", "target"]
    assert "required" not in schema["$defs"]["Evaluation"]


def test_a_config_is_read_without_importing_pandas_or_prefect() -> None:
    code = (
        "import sys; from modelyard.config import load_model_file; "
        "assert not {'pandas', 'prefect', 'sklearn', 'mlflow'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_written_phrases_survive_a_round_trip_through_yaml(tmp_path: Path) -> None:
    source = ROOT / "configs" / "models" / "bikeshare.yaml"
    config = load_model_file(source)
    path = tmp_path / "bikeshare.yaml"
    YAML(typ="safe").dump(config.model_dump(mode="json"), path)
    assert load_model_file(path) == config


CHECKED = """name: m
task: regression
data:
  source: x.csv
  target: y
  id: key
  features: {numeric: [temp, wind], categorical: [season], drop: [old]}
  checks: CHECKS
"""


@pytest.mark.parametrize(
    ("checks", "told"),
    [
        (
            "{levels: {mising: block}}",
            "levels.mising = 'block': is no check. Did you mean `missing`?",
        ),
        ("{levels: {leak: stop}}", "levels.leak = 'stop': must be 'ok', 'warn' or 'block'"),
        ("{allow: [tmep]}", "allow[0] = 'tmep': is no check and no feature. Did you mean `temp`?"),
        ("{allow: ['leak:tmep']}", "is no check and no feature. Did you mean `temp`?"),
        ("{allow: [dupli]}", "Did you mean `duplicates`?"),
        ("{allow: [leak], levels: {leak: warn}}", "has a level in data.checks.levels.leak too"),
        ("{ranges: {tmep: {min: 0}}}", "ranges.tmep = {...}: is no numeric feature. Did you mean"),
        ("{ranges: {season: {min: 0}}}", "has categories, and those have no range; remove it."),
        ("{ranges: {old: {min: 0}}}", "is no feature; name one, or remove it."),
        ("{ranges: {key: {min: 0}}}", "is no feature; name one, or remove it."),
        ("{ranges: {temp: {min: 60, max: -40}}}", "min 60 is above max -40"),
        ("{ranges: {temp: {}}}", "limits nothing; give it a min or a max"),
        ("{max_missing: 50}", "max_missing = 50: "),
        ("{min_rows: 0}", "min_rows = 0: "),
        ("{max_mising: 50%}", "unknown key. Did you mean `max_missing`?"),
    ],
)
def test_data_checks_that_cannot_be_meant_are_refused(
    tmp_path: Path, checks: str, told: str
) -> None:
    message = refusal(written(tmp_path, CHECKED.replace("CHECKS", checks)))
    assert ":8: data.checks." in message
    assert told in message


def test_data_checks_name_columns_checks_or_both(tmp_path: Path) -> None:
    allow = "allow: [duplicates, season, 'leak:temp', 'schema:old', old, y]"
    text = f"{{max_missing: 20%, ranges: {{temp: {{min: -40}}, y: {{max: 5}}}}, {allow}}}"
    checks = load_model_file(written(tmp_path, CHECKED.replace("CHECKS", text))).data.checks
    assert (checks.max_missing, checks.ranges["temp"].min, checks.ranges["y"].max) == (0.2, -40, 5)
    inferred = (
        "name: m\ntask: binary_classification\ndata: {source: x.csv, target: y, checks: %s}\n"
    )
    path = written(tmp_path, inferred % "{allow: [later], ranges: {later: {min: 0}}}")
    assert load_model_file(path).data.checks.allow == ("later",)
    assert "has classes" in refusal(written(tmp_path, inferred % "{ranges: {y: {min: 0}}}"))


@pytest.mark.parametrize(
    ("registry", "right"),
    [
        ("registry.example.org/team", True),
        ("127.0.0.1:5000", True),
        ("https://registry.example.org", False),
        ("somebody:secret@registry.example.org", False),
        ("Registry.example.org", False),
    ],
)
def test_a_registry_is_a_host_and_a_path(tmp_path: Path, registry: str, right: bool) -> None:
    file = tmp_path / "platform.yaml"
    file.write_text(f"docker:\n  registry: {registry}\n")
    if right:
        assert load_platform_config(file).docker.registry == registry
    else:
        with pytest.raises(ConfigError, match="docker login"):
            load_platform_config(file)


BAD_PLATFORMS = [
    ("orchestration: {type: process, image: a}\n", "orchestration.image = 'a': means nothing for"),
    ("orchestration: {type: docker}\n", "is needed for type: docker"),
    ("orchestration: {type: kubernets}\n", "Did you mean `kubernetes`?"),
    ("orchestration: {at_once: 0}\n", "orchestration.at_once = 0"),
    ("reconciliation: {schedule: hourly}\n", "is no cron schedule"),
]


@pytest.mark.parametrize(("text", "says"), BAD_PLATFORMS, ids=[text for text, _ in BAD_PLATFORMS])
def test_a_platform_whose_jobs_could_not_work_is_refused(
    tmp_path: Path, text: str, says: str
) -> None:
    file = tmp_path / "platform.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as refused:
        load_platform_config(file)
    assert says in str(refused.value)


def test_flow_runs_in_jobs_need_servers_that_they_reach(tmp_path: Path) -> None:
    file = tmp_path / "platform.yaml"
    file.write_text("orchestration: {type: kubernetes}\n")
    with pytest.raises(ConfigError) as refused:
        load_platform_config(file)
    named = str(refused.value)
    for key in ("orchestration.image", "orchestration.api_url", "ledger.url", "tracking.uri"):
        assert key in named
