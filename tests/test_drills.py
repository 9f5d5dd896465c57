"""What `make dev` runs fails, waits, and is launched by several at once: it has to come right by itself."""

import itertools

import pytest
from conftest import BUILD, ROOT, SOAK_MINUTES, differences
from drill import PATHS, Command, Drill, running
from reference import Reference
from test_bad_input import MOMENT, ORDER, damaged_parquet, hold


@pytest.fixture(scope="module")
def drill(tmp_path_factory):
    with running(Drill(tmp_path_factory.mktemp("drill"))) as drill:
        yield drill


def models_of(command: Command, drill: Drill) -> set[str]:
    return command.selected & set(drill.builds())


def test_a_model_that_fails_is_tried_twice_more_with_what_depends_on_it_and_nothing_else(drill):
    before, started = drill.builds(), len(drill.commands())

    drill.model_fails.touch()
    root = drill.launch()
    drill.wait(lambda: drill.statuses(root)[:2] == ["FAILURE", "FAILURE"])
    drill.model_fails.unlink()
    drill.wait(lambda: drill.statuses(root) == ["FAILURE", "FAILURE", "SUCCESS"])

    whole, *retries = drill.commands()[started:]
    assert whole.arguments == (*BUILD, "--select", "fqn:*")
    assert len(retries) == 2
    for retry in retries:
        assert retry.arguments[:-1] == whole.arguments[:-1] and retry.folder == whole.folder
        assert models_of(retry, drill) == drill.downstream("unique_payments")
    assert drill.builds() == {model: build_no + 1 for model, build_no in before.items()}


def test_a_retry_after_a_failed_test_builds_what_was_tested_and_what_it_held_up(drill):
    """In the same run a file is corrupt: its feed waits, the run says so, and another feed is built all the same."""
    platform = drill.platform
    customers = (platform.landing / "customers/2026-01-10/0002.csv").read_text().splitlines()
    platform.deliver("customers/2026-01-20/a.csv", f"{customers[0]}\nNEW,New,new@example.org,DE,2026-01-20T10:00:00Z\n")
    platform.deliver("orders/2026-01-20/a.csv", f"{ORDER}I,NEW,NEW,P1,paid,1,5,{MOMENT},{MOMENT},1\n")
    damaged_parquet(platform, "payments/2026-01-20/damaged.parquet")
    before, started = drill.builds(), len(drill.commands())

    drill.test_fails.touch()
    root = drill.launch()
    drill.wait(lambda: drill.statuses(root)[:1] == ["FAILURE"])
    drill.test_fails.unlink()
    (platform.landing / "payments/2026-01-20/damaged.parquet").unlink()
    error = drill.error(root)
    assert "payments/2026-01-20/damaged.parquet cannot be read: " in error
    assert "Got 1 result, configured to fail if != 0" in error
    drill.wait(lambda: drill.statuses(root) == ["FAILURE", "SUCCESS"])

    _, retry = drill.commands()[started:]
    held_up = drill.downstream("customer_changes") | {"unread_files"}
    assert models_of(retry, drill) == held_up
    assert ("drill", "pass") in drill.results()
    assert drill.builds() == {
        model: build_no + (2 if model in ("customer_changes", "unread_files") else 1)
        for model, build_no in before.items()
    }
    assert platform.query("select is_customer_known from marts.fct_orders where order_id = 'NEW'") == [(True,)]


def pytest_generate_tests(metafunc):
    """All at once; `make soak` goes through them two by two as well."""
    if "paths" in metafunc.fixturenames:
        pairs = [*itertools.combinations_with_replacement(PATHS, 2)] if SOAK_MINUTES else []
        metafunc.parametrize("paths", [PATHS, *pairs], ids=" and ".join)


def test_launched_at_once_all_wait_and_do_the_same(drill, paths):
    """While somebody reads the warehouse, too: who it is stands in the run's output."""
    holder = hold(drill.platform, 600)
    started = len(drill.commands())
    ended = [drill.launch_by(path) for path in paths]
    drill.wait(lambda: len(drill.commands()) > started)
    if by_dagster := [run for run in drill.runs() if run["status"] == "STARTED"]:
        sentence = f"(PID {holder.pid}), which has {drill.platform.warehouse} open: let it finish, or close it."
        drill.wait(lambda: sentence in drill.output(by_dagster[0]["runId"]))
    assert all(has_ended() is None for has_ended in ended)
    holder.kill()
    holder.wait()
    drill.wait(lambda: all(has_ended() is not None for has_ended in ended))
    assert all(has_ended() for has_ended in ended)

    commands = drill.commands()[started:]
    assert len(commands) == len(paths)
    plain = [command for command in commands if command.arguments == BUILD]
    assert len(plain) == paths.count("dbt")
    by_dagster = [(c.folder, c.indirect_selection, c.arguments) for c in commands if c not in plain]
    assert set(by_dagster) <= {(str(drill.platform.project), "", (*BUILD, "--select", "fqn:*"))}
    assert not differences(drill.platform.tables(), Reference(ROOT / "seeds").build(drill.platform.landing))


FAULTS = {
    "the landing folder is gone": "{landing} cannot be read: there is no such folder; LANDING_DIR names it",
    "the warehouse is read-only": "The warehouse {warehouse} cannot be opened: ",
    "the disk is full": "Could not write file",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_the_machine_is_named_and_the_next_run_makes_up_for_it(drill, fault):
    platform = drill.platform
    moved = platform.home / "moved"
    lines = (f"I,{fault}{n},C1,P{n * n},paid,1,{n}.5,{MOMENT},{MOMENT},{n}\n" for n in range(100_000))
    platform.deliver(f"orders/2026-01-21/{fault}.csv", ORDER + "".join(lines))
    if "landing" in fault:
        platform.landing.rename(moved)
    elif "read-only" in fault:
        platform.warehouse.chmod(0o444)
        # Root may write to it all the same, unless it gives that up.
        drill.handicap.write_text(
            '[ "$(id -u)" != 0 ] || set -- setpriv --bounding-set=-dac_override,-dac_read_search "$@"\n'
        )
    else:
        limit = platform.warehouse.stat().st_size + 500_000
        drill.handicap.write_text(f"ulimit -f {limit // 512}\n")  # stands in for it

    try:
        root = drill.launch()
        drill.wait(lambda: drill.statuses(root)[:1] == ["FAILURE"])
    finally:
        if moved.exists():
            moved.rename(platform.landing)
        platform.warehouse.chmod(0o644)
        drill.handicap.write_text("")
    sentence = FAULTS[fault].format(landing=platform.landing, warehouse=platform.warehouse)
    assert sentence in drill.error(root)

    drill.settle()
    run = drill.launch()
    drill.wait(lambda: drill.statuses(run) == ["SUCCESS"])
    assert not differences(platform.tables(), Reference(ROOT / "seeds").build(platform.landing))


@pytest.mark.parametrize("checks", [["drill"], [], None], ids=["the one that fails", "none", "all"])
def test_with_some_checks_left_out_no_run_is_green_whose_models_were_not_built(drill, checks):
    models = {"customer_changes", "current_customers", "dim_customers_history"}
    drill.test_fails.touch()
    before = drill.builds()
    keys = {key[-1]: {"path": key} for key in drill.asset_keys()}
    selected = (
        [{"assetKey": keys["customer_changes"], "name": check} for check in checks] if checks is not None else None
    )
    run = drill.launch(
        jobName="__ASSET_JOB", assetSelection=[keys[model] for model in models], assetCheckSelection=selected
    )
    drill.wait(lambda: drill.statuses(run)[:1] in (["SUCCESS"], ["FAILURE"]))
    drill.test_fails.unlink()
    built = {model for model, build_no in drill.builds().items() if build_no > before[model]}
    if checks == []:
        assert drill.statuses(run) == ["SUCCESS"]
        assert built == models
    else:
        assert drill.statuses(run) == ["FAILURE"]
        assert built == {"customer_changes"}
