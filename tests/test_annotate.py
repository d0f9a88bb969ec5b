"""The annotator's server: only for who has the token, only this machine's name, only the listed pictures."""

import json
import re
from http.client import HTTPConnection
from types import SimpleNamespace
from urllib.parse import quote

import cv2
import numpy as np
import pytest
import torch
from helpers.base import TINY_SAM
from helpers.data_folders import make_folder, picture, square
from PIL import Image

from knowsam_lite.cli import main
from knowsam_lite.config import Config
from knowsam_lite.data import SegmentationFolder
from knowsam_lite.errors import UserError
from knowsam_lite.methods import METHODS
from knowsam_lite.predict import Predictor
from knowsam_lite.runs.classes import Classes
from knowsam_lite.sam import PromptedSam
from knowsam_lite.web import annotator as annotators
from knowsam_lite.web.annotator import Annotator, Wanted, open_annotator
from knowsam_lite.web.clicks import Clicks, Prompt
from knowsam_lite.web.masks import MaskFolder

pytest.importorskip("tornado")
from knowsam_lite.web import start

CPU = torch.device("cpu")


def tiny_sam(size: int = 32) -> PromptedSam:
    torch.manual_seed(3)
    return PromptedSam(TINY_SAM, size).eval()


@pytest.fixture(scope="module")
def drafts() -> Predictor:
    torch.manual_seed(0)
    method = METHODS["supervised"](Config(method="supervised", image_size=16), 2).eval()
    return Predictor(method, 16, Classes(("background", "square"), (0, 255)), CPU)


@pytest.fixture
def served(tmp_path, drafts):
    """A folder, its annotator, and `ask(method, path, ...)`, which answers (status, headers, body)."""
    root = make_folder(tmp_path / "data")
    made = Annotator(MaskFolder(root), Clicks(tiny_sam(), CPU), "tiny", drafts)
    address = start.serve_in_thread(made)
    port, token = re.fullmatch(r"http://127\.0\.0\.1:(\d+)/\?token=([\w-]{30,})", address).groups()

    def ask(method: str, path: str, body: bytes | None = None, **headers: str):
        given = {"Authorization": f"token {token}", **{k.replace("_", "-"): v for k, v in headers.items()}}
        connection = HTTPConnection("127.0.0.1", int(port), timeout=20)
        connection.request(method, path, body, {key: value for key, value in given.items() if value})
        answer = connection.getresponse()
        found = answer.status, dict(answer.headers), answer.read()
        connection.close()
        return found

    return SimpleNamespace(root=root, annotator=made, token=token, ask=ask)


def error_of(answer) -> tuple[int, str]:
    return answer[0], json.loads(answer[2])["error"]


def test_the_page_is_whole_and_runs_only_its_own_script(served):
    status, headers, body = served.ask("GET", f"/?token={served.token}", Authorization="")
    page = body.decode()
    assert status == 200 and page.rstrip().endswith("</html>") and "main();" in page
    [nonce] = set(re.findall(r'nonce="(\w+)"', page))
    policy = headers["Content-Security-Policy"]
    assert f"script-src 'nonce-{nonce}'" in policy and policy.startswith("default-src 'none'")
    assert not re.search(r"(src|href)=\"(?!data:)", page) and not re.search(r"/\* \w+\.\w+ \*/", page)
    again = served.ask("GET", f"/?token={served.token}")[2].decode()
    assert nonce not in again


def test_nothing_is_answered_without_the_token(served):
    for path in ("/", "/api/about", "/api/picture?image=i00", "/api/mask?image=i00", "/nothing"):
        for token in ("", "token ", "token wrong", "Bearer", "token \xfc"):
            status, line = error_of(served.ask("GET", path, Authorization=token))
            assert status == 403 and "token" in line, (path, token)


def test_no_mask_is_written_and_no_sam_asked_without_the_token(served):
    before = (served.root / "masks/i00.png").read_bytes()
    assert served.ask("PUT", "/api/mask?image=i00", square(0).tobytes(), Authorization="")[0] == 403
    assert served.ask("POST", "/api/prepare?image=i00", b"", Authorization="")[0] == 403
    assert (served.root / "masks/i00.png").read_bytes() == before
    assert not served.annotator.clicks.knows("i00")


def test_a_foreign_name_of_this_machine_is_refused(served):
    for host in ("evil.example", "evil.example:80", "127.0.0.1.evil.example", " ", "[::2]:1"):
        status, line = error_of(served.ask("GET", "/api/about", Host=host))
        assert status == 403 and "Host" in line, host


def test_a_tunnel_may_have_another_port(served):
    for host in ("127.0.0.1:1", "localhost:9000", "LOCALHOST", "[::1]:8"):
        assert served.ask("GET", "/api/about", Host=host)[0] == 200, host


NAMES = (
    "",
    "../../secret",
    "/etc/passwd",
    "images/i00.png",
    "i00.png",
    "../data/i00",
    "i00\0",
    "I00",
    "..%2fi",
)


def test_only_pictures_of_the_list_exist(served):
    (served.root.parent / "secret.png").write_bytes((served.root / "images/i00.png").read_bytes())
    asked = (
        ("GET", "picture", None),
        ("GET", "mask", None),
        ("PUT", "mask", square(0).tobytes()),
        ("POST", "answer", b'[{"at": [1, 1], "inside": true}]'),
        ("POST", "prepare", b""),
    )
    for name in NAMES:
        for method, path, body in asked:
            status, line = error_of(served.ask(method, f"/api/{path}?image={quote(name, safe='')}", body))
            assert status == 400 and line.startswith("found no picture"), (name, path)
    found = sorted(path.name for path in served.root.parent.iterdir())
    assert found == ["data", "secret.png"]


def test_no_file_has_an_address(served):
    for path in ("/../index.csv", "/masks/i00.png", "/api", "/static/x", "//etc/passwd"):
        assert served.ask("GET", path)[0] == 404, path


def test_a_mask_goes_to_the_disk_and_back(served):
    status, headers, body = served.ask("GET", "/api/mask?image=i00")
    assert status == 200 and (headers["X-Height"], headers["X-Width"]) == ("24", "32")
    assert body == square(1).tobytes()
    drawn = np.random.default_rng(0).integers(0, 2, (24, 32), np.uint8)
    answer = served.ask("PUT", "/api/mask?image=i00", drawn.tobytes(), If_Match=headers["X-Version"])
    assert answer[0] == 200
    opened = SegmentationFolder(served.root)
    assert (opened.mask(next(r for r in opened.records if r.id == "i00")) == drawn).all()
    status, headers, body = served.ask("GET", "/api/mask?image=i00")
    assert body == drawn.tobytes() and headers["X-Version"] == json.loads(answer[2])["version"]


def test_a_mask_that_another_program_wrote_is_said(served):
    version = served.ask("GET", "/api/mask?image=i00")[1]["X-Version"]
    Image.fromarray(square()[::-1]).save(served.root / "masks/i00.png")
    status, line = error_of(served.ask("PUT", "/api/mask?image=i00", square(0).tobytes(), If_Match=version))
    assert status == 412 and "changed on disk" in line
    assert served.ask("GET", "/api/mask?image=i00")[2] == square(1)[::-1].tobytes()
    assert served.ask("PUT", "/api/mask?image=i00", square(0).tobytes())[0] == 200


def test_bad_requests_and_files_are_one_line(served):
    (served.root / "images/i01.png").write_bytes(b"no picture")
    Image.fromarray(square(7)).save(served.root / "masks/i02.png")
    for method, path, body, words in (
        ("PUT", "mask?image=i00", b"12", "found 2 bytes"),
        ("PUT", "mask?image=i00", square(2).tobytes(), "found class 2"),
        ("GET", "picture?image=i01", None, "no readable image"),
        ("POST", "prepare?image=i01", b"", "no readable image"),
        ("GET", "mask?image=i02", None, "found mask values 7"),
        ("POST", "answer?image=i00", b"{", "found no prompts"),
        ("POST", "answer?image=i00", b'{"at": 1}', "found no prompts"),
        ("POST", "answer?image=i00", b"[]", "found no prompt"),
        ("POST", "answer?image=i00", b'[{"at": [1, 2, 3], "inside": true}]', "two or four"),
        ("POST", "answer?image=i00", b'[{"at": [1, NaN], "inside": true}]', "finite"),
    ):
        status, line = error_of(served.ask(method, f"/api/{path}", body))
        assert status == 400 and words in line and "\n" not in line


def test_pictures_drafts_and_answers_are_those_of_the_library(served):
    about = json.loads(served.ask("GET", "/api/about")[2])
    assert about["classes"] == ["background", "square"] and about["drafts"] and not about["unknown"]
    assert [image["name"] for image in about["images"]][:2] == ["i00", "i01"]
    png = served.ask("GET", "/api/picture?image=i03")[2]
    seen = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert (seen == picture(3)).all()
    assert served.ask("GET", "/api/draft?image=i03")[2] == served.annotator.drafts([picture(3)])[0].tobytes()
    body = json.dumps([{"at": [9.5, 8.5], "inside": True}, {"at": [2, 3, 20, 15], "inside": True}]).encode()
    status, headers, answer = served.ask("POST", "/api/answer?image=i03", body)
    own = Clicks(tiny_sam(), CPU).answer("", picture(3), [Prompt((9.5, 8.5)), Prompt((2, 3, 20, 15))])
    assert status == 200 and answer == own.astype(np.uint8).tobytes() and float(headers["X-Seconds"]) > 0


def test_without_a_run_there_is_no_draft(served):
    served.annotator.drafts = None
    assert error_of(served.ask("GET", "/api/draft?image=i00")) == (
        400,
        "found no run, expected one for drafts: start with --run RUN",
    )


def test_a_picture_is_embedded_once_and_an_answer_prompts_the_next():
    clicks, image = Clicks(tiny_sam(), CPU), picture(0, (32, 32))
    calls = []
    encode = clicks.sam.encode
    clicks.sam.encode = lambda x: calls.append(1) or encode(x)
    prompts = [Prompt((8.0, 9.0)), Prompt((20.0, 3.0), False), Prompt((4.0, 4.0, 30.0, 28.0))]
    answers = [clicks.answer("a", image, prompts[: i + 1]) for i in range(3)]
    assert len(calls) == 1
    with torch.inference_mode():  # the same by hand: SAM itself adds half a pixel to what it is given
        e = clicks.embed("a", image)
        places = torch.tensor([[[[7.5, 8.5], [19.5, 2.5]]]])
        inside = torch.tensor([[[1.0, 0.0]]])
        z = clicks.sam.segment(e, points=(places[:, :, :1], inside[:, :, :1]))
        z = clicks.sam.segment(e, points=(places, inside), masks=z.clamp(-32, 32))
        box = torch.tensor([[[3.5, 3.5, 29.5, 27.5]]])
        zs = [z, clicks.sam.segment(e, points=(places, inside), boxes=box)]  # with a box without it
        zs = [torch.nn.functional.interpolate(z, (32, 32), mode="bilinear") for z in zs]
    for answer, z in zip(answers[1:], zs, strict=True):
        assert (answer == (z[0, 0] > 0).numpy()).all()
    assert (Clicks(tiny_sam(), CPU).answer("b", image, prompts) == answers[2]).all()  # in any state


def test_a_run_without_sam_cannot_answer_and_weights_that_are_not_here_are_named(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("KNOWSAM_LITE_CACHE", str(tmp_path / "cache"))
    root = make_folder(tmp_path / "data")
    words = "--method supervised --students paper --image-size 16 --steps 1 --labeled 2 --batch-labeled 2"
    assert (
        main(
            ["train", *words.split(), "--device", "cpu", "--data", str(root), "--out", str(tmp_path / "run")]
        )
        == 0
    )
    capsys.readouterr()
    for options, line in (
        (Wanted(run=tmp_path / "no"), "found no"),
        (Wanted(teacher="sam_huge"), "found teacher 'sam_huge'"),
        (Wanted(teacher="mobile_sam"), "found no weights of mobile_sam"),
    ):
        with pytest.raises(UserError, match=line):
            open_annotator(root, options)
    made = open_annotator(root, Wanted(run=tmp_path / "run", device="cpu"))
    assert made.teacher == "sam_mini" and made.drafts is not None
    assert "sam_mini answers" in capsys.readouterr().out
    assert made.answer("i00", [Prompt((12.0, 10.0))]).shape == (24, 32)


def test_the_command_says_what_is_wrong_in_one_line(tmp_path, monkeypatch, capsys):
    assert main(["annotate", str(tmp_path / "no"), "--teacher", "sam_mini", "--no-browser"]) == 2
    monkeypatch.setattr(start, "find_spec", lambda name: None)
    assert main(["annotate", str(tmp_path), "--no-browser"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and "found no folder" in lines[0] and "knowsam-lite[annotate]" in lines[1]


def test_a_port_that_cannot_be_had_is_one_line(served):
    import asyncio

    async def again(port: int) -> None:
        start.start(served.annotator, port)

    first = start.serve_in_thread(served.annotator)
    for taken in (int(first.split(":")[2].split("/")[0]), 99_999):
        with pytest.raises(UserError, match=f"found port {taken}"):
            asyncio.run(again(taken))


def test_a_notebook_shows_the_page(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(annotators, "plain_sam", lambda *given: made.append(given) or tiny_sam())
    frame = start.annotate(make_folder(tmp_path / "data"), height=500, teacher="sam_mini", device="cpu")
    assert made == [("sam_mini", None, None)]
    assert frame.src.startswith("http://127.0.0.1:") and frame.height == 500
