"""Commands on a running server, and on AWS: the same as on the file of the same store."""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
import typer

from durable.aws import control
from durable.cli.app import app
from durable.cli.options import complete_callback, complete_name, complete_step
from durable.cli.place import Remote, Store
from tests.cli.helpers import JOBS, ROOT, Call, Outcome, job, leave_unfinished, said, start_process
from tests.server.dev import CREDENTIALS, Dev, served, until

pytestmark = pytest.mark.process

NOT_LISTED = {"invocations", "result", "error"}


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Generator[Dev]:
    """A server of all that the tests here start."""
    acts, jobs = str(ROOT / "tests/cli/acts.py"), map(job, ("double", "doomed", "waits"))
    plain = str(ROOT / "tests/server/functions.py:fail")
    with served(tmp_path_factory.mktemp("dev"), acts, *jobs, plain, "--no-reload") as dev:
        yield dev


@pytest.fixture
def remote(durable: Call, dev: Dev) -> Call:
    """Call a command on the server."""

    def call(*arguments: str, **options: Any) -> Outcome:
        return durable(*arguments, "--endpoint", dev.url, **options)

    return call


@pytest.fixture
def local(durable: Call, dev: Dev) -> Call:
    """Call a command on the file of the server's store."""

    def call(*arguments: str) -> Outcome:
        return durable(*arguments, "--store", str(dev.directory / "durable.db"))

    return call


def start(dev: Dev, function: str, name: str, event: Any = None, *, events: int = 0) -> str:
    """Start an execution, and wait for its end, or until it has so many events; its ARN."""
    answer = dev.client.invoke(
        FunctionName=function,
        DurableExecutionName=name,
        InvocationType="Event",
        Payload=json.dumps(event).encode(),
    )
    arn: str = answer["DurableExecutionArn"]

    def is_there() -> bool:
        found = dev.client.get_durable_execution_history(DurableExecutionArn=arn)["Events"]
        return len(found) >= events if events else found[-1]["EventType"].startswith("Execution") and len(found) > 1

    until(is_there, dev)
    return arn


def ended(dev: Dev, arn: str) -> dict[str, Any]:
    """An execution as the server has it now."""
    found: dict[str, Any] = dev.client.get_durable_execution(DurableExecutionArn=arn)
    return found


def whole(document: dict[str, Any]) -> dict[str, Any]:
    """What a document says, apart from what it is read from."""
    return {key: value for key, value in document.items() if key not in {"function", "engine"}}


# --- Look ----------------------------------------------------------------------------------------------------


def test_looking_tells_the_same_of_a_file_and_of_its_server(dev: Dev, local: Call, remote: Call):
    """Of an execution that succeeded, of one that was rolled back, of one that waits; by name and by ARN."""
    arns = {
        "double": start(dev, "double", "good", 21),
        "doomed": start(dev, "doomed", "bad", "too\nbad"),
        "asks": start(dev, "asks", "open", events=3),
    }
    for function, name in (("double", "good"), ("doomed", "bad"), ("asks", "open")):
        which = ("--function", function)
        listed = {
            key: value for key, value in local("ls", "--json", *which).lines[0].items() if key not in NOT_LISTED
        }
        assert remote("ls", "--json", *which).lines == [{**listed, "function": function}]
        shown = local("show", name, "--json").document
        answer = remote("show", name, "--json", *which).document
        assert whole(answer) == whole(shown)
        assert (answer["function"], answer["engine"]) == (function, dev.url)
        assert remote("history", name, *which).out == local("history", name).out != ""
    assert remote("show", arns["asks"], "--json").document == answer
    document = remote("history", arns["doomed"], "--json").document
    assert _without_truncated(document) == local("history", "bad", "--json").document


def _without_truncated(value: Any) -> Any:
    """The server says of each payload that it is whole, a file has no need to."""
    if isinstance(value, dict):
        return {key: _without_truncated(one) for key, one in value.items() if key != "Truncated"}
    return [_without_truncated(one) for one in value] if isinstance(value, list) else value


def test_pages_are_followed(dev: Dev, local: Call, remote: Call, monkeypatch: pytest.MonkeyPatch):
    """Of a history and of a listing, which is oldest first."""
    monkeypatch.setattr(control, "MAX_PAGE", 2)
    started = [start(dev, "waits", f"page-{number}", 3600, events=3) for number in range(5)]
    assert [line["arn"] for line in remote("ls", "-f", "waits", "--json").lines] == started
    assert remote("ls", "-f", "waits", "--json", "--status", "FAILED").lines == []
    assert len(remote("history", started[0], "--json").document["Events"]) == 3
    assert remote("history", started[0]).out == local("history", "page-0").out


def test_what_can_be_done_is_shown_with_where(dev: Dev, remote: Call):
    """The commands can be copied; nothing is said of an engine, which is the server's own business."""
    start(dev, "asks", "shown", events=3)
    shown = remote("show", "shown", "-f", "asks")
    assert said(
        shown.out, "asks  shown", "not over", f"{dev.url} sees to it", "answer with", "durable callback succeed"
    )
    assert f"--endpoint {dev.url}" in shown.out
    assert "resume" not in shown.out
    assert "OUTCOME" not in remote("ls", "-f", "asks").out


# --- Act -----------------------------------------------------------------------------------------------------


def test_a_callback_is_answered(dev: Dev, remote: Call):
    """A sign of life, then a result; then it takes nothing any more."""
    arn = start(dev, "asks", "asked", events=3)
    callback = remote("show", arn, "--json").document["awaits"][0]["callback_id"]
    assert remote("callback", "heartbeat", callback).out == "✓ recorded  the callback has a sign of life\n"
    (line,) = remote("callback", "succeed", callback, "-r", "42", "--json").lines
    assert line == {
        "type": "recorded",
        "execution": None,
        "what": "callback succeed",
        "name": None,
        "callback_id": callback,
        "engine": dev.url,
    }
    until(lambda: ended(dev, arn).get("Result") == "42", dev)
    again = remote("callback", "fail", callback, "-m", "too late")
    assert (again.code, again.out) == (3, "")
    assert said(again.err, "error: CallbackTimeoutException", "takes nothing any more")


def test_a_callback_fails_with_an_error(dev: Dev, remote: Call):
    """Its type, message and data are the function's to read."""
    arn = start(dev, "asks", "failed", events=3)
    callback = remote("show", arn, "--json").document["awaits"][0]["callback_id"]
    error = ("--type", "ValueError", "--message", "no", "--data", "at all")
    assert remote("callback", "fail", callback, *error).code == 0
    until(lambda: ended(dev, arn).get("Result") == str(-len("ValueError no at all")), dev)


def test_an_execution_is_stopped(dev: Dev, remote: Call):
    """And cannot be stopped again."""
    arn = start(dev, "cancellable", "stopped", events=7)
    stop = remote("stop", "stopped", "--function", "cancellable", "--message", "enough")
    assert (stop.code, stop.out.splitlines()[0]) == (0, "✓ recorded  stopped: is stopped")
    assert said(
        stop.err, "nothing was undone", "durable cancel stopped", "--function cancellable", "would have undone"
    )
    shown = remote("show", arn, "--json").document
    assert (shown["status"], shown["error"]["message"]) == ("STOPPED", "enough")
    again = remote("stop", arn)
    assert (again.code, again.err.partition("is over")[2]) == (3, ", it is STOPPED: there is nothing to stop\n")


def test_sagas_are_cancelled_and_decided_on(dev: Dev, remote: Call):
    """Through their callbacks, as on a file."""
    arn = start(dev, "cancellable", "cancelled", events=7)
    assert remote("cancel", "cancelled", "-f", "cancellable", "--reason", "rain").code == 0
    until(lambda: ended(dev, arn)["Status"] == "FAILED", dev)
    assert said(remote("show", arn).out, "hotel", "undone", "rain")
    stuck = start(dev, "parks", "stuck", events=12)
    until(lambda: remote("show", stuck, "--json").document["awaits"], dev)
    decided = remote("saga", "abandon", stuck, "flight")
    assert decided.code == 0, decided.err
    until(lambda: ended(dev, stuck)["Status"] == "FAILED", dev)


# --- Start and wait ------------------------------------------------------------------------------------------


def test_an_execution_is_started_and_waited_for(dev: Dev, remote: Call):
    """The same name and input find it again; wait tells what happened, its result, and exits with 0."""
    started = remote("start", "double", "-i", "21", "-n", "started")
    assert said(started.out, "✓ started  started: arn:aws:lambda:", f"durable wait started --endpoint {dev.url} ")
    waited = remote("wait", "started", "--function", "double")
    assert (waited.code, waited.err) == (0, "")
    assert said(waited.out, "started: double", "✓ succeeded in", "42")
    (line,) = remote("start", "double", "-i", "21", "-n", "started", "--json").lines
    assert (line["type"], line["what"], line["execution"], line["engine"]) == (
        "recorded",
        "start",
        "started",
        dev.url,
    )
    lines = remote("wait", line["arn"], "--json").lines
    assert [one["type"] for one in lines] == ["execution", *["event"] * (len(lines) - 2), "outcome"]
    assert (lines[-1]["result"], lines[-1]["exit_code"]) == (42, 0)
    other = remote("start", "double", "-i", "1", "-n", "started")
    assert (other.code, other.out) == (3, "")
    assert other.err.startswith("error: DurableExecutionAlreadyStartedException")


def test_what_was_waited_for_and_failed_is_exit_code_1(dev: Dev, local: Call, remote: Call):
    """With the error, and what was undone; on the server and on its file."""
    start(dev, "doomed", "doomed", "no")
    for waited in (remote("wait", "doomed", "-f", "doomed"), local("wait", "doomed")):
        assert waited.code == 1
        assert said(
            waited.out, "✗ failed in", "CompensationError", "undone", "third, first", "NOT undone", "second"
        )


@pytest.mark.parametrize("where", ["endpoint", "store"])
def test_waiting_tells_what_happens_and_ends_with_it(dev: Dev, where: str, tmp_path: Path):
    """Somebody answers the callback while another process waits for the execution."""
    arn = start(dev, "asks", f"by-{where}", events=3)
    place = {
        "endpoint": ("--endpoint", dev.url, "-f", "asks"),
        "store": ("--store", str(dev.directory / "durable.db")),
    }[where]
    waiting = start_process("wait", f"by-{where}", "--timeout", "30", *place, cwd=tmp_path)
    assert waiting.stdout is not None
    lines = iter(waiting.stdout.readline, "")
    asked = next(line for line in lines if "waits for an answer: durable callback succeed" in line)
    callback = asked.partition("callback succeed ")[2].split()[0]
    dev.client.send_durable_execution_callback_success(CallbackId=callback, Result=b"7")
    rest, errors = waiting.communicate(timeout=30)
    assert (waiting.returncode, errors) == (0, "")
    assert said(rest, "number succeeded in", "7", "✓ succeeded in", "7")
    assert ended(dev, arn)["Result"] == "7"


def test_waiting_is_ended_in_order(dev: Dev, tmp_path: Path):
    """By SIGTERM and Ctrl-C, each with its exit code; the execution goes on."""
    arn = start(dev, "asks", "signals", events=3)
    for number, code in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
        waiting = start_process("wait", arn, "--timeout", "30", "--endpoint", dev.url, cwd=tmp_path)
        assert waiting.stdout is not None
        assert next(line for line in iter(waiting.stdout.readline, "") if "waits for an answer" in line)
        waiting.send_signal(number)
        waiting.communicate(timeout=30)
        assert waiting.returncode == code
    assert ended(dev, arn)["Status"] == "RUNNING"


def test_names_of_the_store_do_not_complete_what_is_elsewhere(durable: Call):
    """A shell is not sent to the network, and not told what is not there."""
    leave_unfinished(("asks", None, "left"), events=2, target=str(ROOT / "tests/cli/acts.py:asks"))
    context = typer.Context(typer.main.get_command(app))
    assert complete_name(context, "") == ["left"]
    assert len(complete_callback(context, "")) == 1
    for elsewhere in ({"endpoint": "http://127.0.0.1:1"}, {"aws": True}):
        context.params = elsewhere
        assert complete_name(context, "") == complete_step(context, "") == complete_callback(context, "") == []


def test_waiting_ends_when_its_time_is_over(dev: Dev, local: Call, remote: Call, durable: Call):
    """The execution goes on; of a store that no engine has it is said that it does not."""
    start(dev, "asks", "long", events=3)
    for waited in (remote("wait", "long", "-f", "asks", "--timeout", "0.3"), local("wait", "long", "-t", "0.3")):
        assert (waited.code, waited.err) == (3, "error: execution 'long' is not over after 0.30 s: it goes on\n")
    leave_unfinished(("waits", 3600, "left"), events=2)
    waited = durable("wait", "left", "-t", "0.1")
    assert waited.code == 3
    assert said(
        waited.err, "no engine is at work on durable.db", "durable resume left\n", "error: execution 'left'"
    )


def test_what_cannot_be_started_is_told(durable: Call, remote: Call):
    """A function that is not there, one that is not durable, input that is none; and a store is for durable run."""
    for arguments, code, message in (
        (("start", "nothing"), 3, "error: ResourceNotFoundException: "),
        (("start", "fail"), 3, "error: fail is not a durable function: it was called, and there is no execution"),
        (("start", "double", "-i", "{"), 3, "error: --input is not JSON"),
        (("start", "double", "-n", "not a name"), 3, "error: InvalidParameterValueException: "),
    ):
        run = remote(*arguments)
        assert (run.code, run.out) == (code, "")
        assert run.err.startswith(message), run.err
    run = durable("start", "double")
    assert (run.code, run.out) == (2, "")
    assert said(run.err, "error: durable start is for a server", "durable run")


# --- What goes wrong -----------------------------------------------------------------------------------------


def test_what_is_not_there_is_told(dev: Dev, remote: Call):
    """An execution by name and by ARN, a function, a callback: exit code 3, one message."""
    for arguments, message in (
        (("show", "nobody", "-f", "double"), "error: no execution is named 'nobody'\n"),
        (("stop", "nobody", "-f", "double"), "error: no execution is named 'nobody'\n"),
        (
            ("history", "arn:aws:lambda:us-east-1:0:function:f:1/durable-execution/a/b"),
            "error: no execution is named 'arn:",
        ),
        (("ls", "-f", "nothing"), "error: ResourceNotFoundException: "),
        (("callback", "succeed", "abc"), "error: ResourceNotFoundException: there is no callback 'abc'"),
    ):
        run = remote(*arguments)
        assert (run.code, run.out) == (3, "")
        assert run.err.startswith(message), run.err
    run = remote("ls", "-f", "asks_for_text")
    assert (run.code, run.err) == (0, f"no execution of asks_for_text in {dev.url}\n")


def test_a_name_alone_is_not_enough(remote: Call):
    """The API has executions by functions: exit code 2, and what to add."""
    for arguments in (("show", "good"), ("ls",), ("cancel", "good")):
        run = remote(*arguments)
        assert run.code == 2
        assert "--function" in run.err


def test_a_server_that_is_not_there_is_told(durable: Call, monkeypatch: pytest.MonkeyPatch):
    """At once, with its URL and what to do; also when it is the environment's. What is no URL is a wrong option."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    run = durable("ls", "-f", "double", "--endpoint", url)
    assert (run.code, run.out) == (3, "")
    told = (
        f"error: nothing answers at {url}: is there a durable dev? --endpoint or DURABLE_ENDPOINT says where it is."
    )
    assert run.err == f"{told}\n"
    monkeypatch.setenv("DURABLE_ENDPOINT", url)
    assert durable("callback", "heartbeat", "abc").err == f"{told}\n"
    assert durable("ls", "--store", "durable.db").err.startswith("error: there is no store at durable.db")
    run = durable("ls", "-f", "double", "--endpoint", "nonsense")
    assert (run.code, run.err) == (2, "error: 'nonsense' is no URL: it is as http://127.0.0.1:9420\n")


def test_a_token_is_shown_and_a_wrong_one_refused(durable: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """By option or environment; the message says how to give it."""
    with served(tmp_path, str(JOBS), "--no-reload", "--token", "secret") as dev:
        ls = ("ls", "-f", "double", "--endpoint", dev.url)
        for wrong in ((), ("--token", "guessed")):
            run = durable(*ls, *wrong)
            assert (run.code, run.out) == (3, "")
            assert said(run.err, f"error: {dev.url} refuses: AccessDenied", "token", "--token or DURABLE_DEV_TOKEN")
        assert durable(*ls, "--token", "secret").code == 0
        monkeypatch.setenv("DURABLE_DEV_TOKEN", "secret")
        assert durable(*ls).code == 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--endpoint", "http://x", "--store", "a.db"), "executions are in one place: --store or --endpoint"),
        (("--aws", "--store", "a.db"), "executions are in one place: --store or --aws"),
        (("--aws", "--endpoint", "http://x"), "executions are in one place: --endpoint or --aws"),
        (("--region", "eu-west-1"), "--region goes with --aws"),
        (("--endpoint", "http://x", "--profile", "p"), "--profile goes with --aws"),
        (("--token", "t"), "--token goes with --endpoint"),
        (("--endpoint", ""), "--endpoint is a URL"),
    ],
)
def test_options_that_contradict_each_other(durable: Call, arguments: tuple[str, ...], told: str):
    """Exit code 2, and nothing is asked."""
    run = durable("ls", *arguments)
    assert (run.code, run.out) == (2, "")
    assert run.err.startswith(f"error: {told}")


# --- AWS -----------------------------------------------------------------------------------------------------


def test_aws_is_asked_as_its_sdks_ask_it(durable: Call, dev: Dev, monkeypatch: pytest.MonkeyPatch):
    """Region, endpoint and credentials are looked up as everywhere; what is missing is named."""
    monkeypatch.setenv("AWS_CONFIG_FILE", "aws-config")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "aws-credentials")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for variable in ("AWS_PROFILE", "AWS_REGION", *CREDENTIALS):
        monkeypatch.delenv(variable, raising=False)
    start(dev, "double", "on-aws", 4)
    show = ("show", "on-aws", "--function", "double", "--aws")
    run = durable(*show)
    assert (run.code, run.err) == (3, "error: AWS cannot be called: You must specify a region. (--region)\n")
    run = durable(*show, "--profile", "nobody")
    assert (run.code, run.err) == (
        3,
        "error: AWS cannot be called: The config profile (nobody) could not be found\n",
    )
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    run = durable(*show)
    assert run.err.startswith("error: there are no credentials for AWS: --profile")
    run = durable(*show, "--region", "us-east-1")
    assert run.code == 3
    assert run.err.startswith("error: there are no credentials for AWS in us-east-1: --profile")
    monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", dev.url)
    for variable, value in CREDENTIALS.items():
        monkeypatch.setenv(variable, value)
    run = durable(*show)
    assert (run.code, run.err) == (0, "")
    assert said(run.out, "double  on-aws", "succeeded", "8")
    start(dev, "asks", "asks-aws", events=3)
    which = ("asks-aws", "--function", "asks", "--aws")
    for command, code in (("pause", 0), ("pause", 3), ("resume", 0), ("delete", 3), ("stop", 0), ("delete", 0)):
        run = durable(command, *which)
        assert run.code == code, run.err
    assert durable("show", *which).code == 3


def test_commands_to_copy_say_where(monkeypatch: pytest.MonkeyPatch):
    """Only as far as the environment does not say it; the token is never repeated."""
    here = Remote(endpoint="http://127.0.0.1:9420", token="secret", function="f")
    assert here.command("show", "t-1") == "durable show t-1 --endpoint http://127.0.0.1:9420 --function f"
    assert here.command("callback", "succeed", "x") == "durable callback succeed x --endpoint http://127.0.0.1:9420"
    monkeypatch.setenv("DURABLE_ENDPOINT", "http://127.0.0.1:9420")
    assert here.command("show", "t-1") == "durable show t-1 --function f"
    aws = Remote(region="eu-west-1", profile="work")
    assert aws.command("show", "arn:x") == "durable show arn:x --aws --region eu-west-1 --profile work"
    assert Store("other.db").of("f").command("show", "t-1") == "durable show t-1 --store other.db"
