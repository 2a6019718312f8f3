"""Weights as a folder: the state dict, the config, and a model card whose lines are run."""

from __future__ import annotations

import json
import pathlib
import re
import shutil

import hypothesis.strategies as st
import jax
import numpy as np
import pytest
import yaml
from hypothesis import given
from PIL import Image

from ssljax import load_run, train_config, weights
from ssljax.evaluate import evaluate, save
from ssljax.models.torch import layouts
from ssljax.models.torch.description import Description, of_run
from ssljax.report import front_matter, markdown, model_card
from ssljax.runs import exported_folder
from ssljax.runs.config import resolve
from ssljax.runs.imported_weights import import_weights
from ssljax.runs.run import make_run
from ssljax.runs.trained_model import TrainedModel
from ssljax.settings.errors import InputError
from ssljax.training.loop import train
from ssljax.training.training_records import training_records
from tests import references

pytest.importorskip("safetensors", reason="needs the extra `safetensors`")

HOSTILE = (
    "a`b|c</code><script>alert(1)</script>\n---\n```\n# \"x\": ['y'] \x07\u2028\udc80 $(rm -rf ~)"
)
IMAGES = [np.random.default_rng(0).integers(0, 256, (90, 80, 3), np.uint8) for _ in range(3)]


def card_of(folder: pathlib.Path) -> tuple[dict, str]:
    """The front matter and the text of a card."""
    _, head, text = (folder / "README.md").read_text("utf-8").split("---\n", 2)
    return yaml.safe_load(head), text


def python_lines(text: str, section: str) -> str:
    """The Python of a section of a card."""
    return re.search(r"```python\n(.*?)```", text.split(f"### In {section}\n")[1], re.DOTALL)[1]


@pytest.fixture(scope="module")
def torchvisions(tmp_path_factory):
    """AlexNet with 18 outputs, as many as 3×3 puzzles have coordinates."""
    torch, torchvision = references.load("torch"), references.load("torchvision")
    torch.manual_seed(0)
    state = torchvision.models.alexnet(num_classes=18).state_dict()
    return {name: value.numpy() for name, value in state.items()}


def config_of(method: str, model: str = "alexnet", **options):
    config = train_config(method, model)
    config.data.update(dataset="made_up", image_size=68, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))
    config.model.update(options)
    if method == "jigsaw":
        config.method.tile = 22
    return resolve(config)


def run_lines(folder: pathlib.Path, monkeypatch, library: str = "torchvision") -> dict:
    """Runs a library's lines of the card in a folder, on an image there."""
    image = np.random.default_rng(1).integers(0, 256, (95, 80, 3), np.uint8)
    Image.fromarray(image).save(folder / "image.jpg")
    monkeypatch.chdir(folder)
    names: dict = {}
    exec(python_lines(card_of(folder)[1], library), names)
    return names


def exported_by_hand(config, tensors, folder: pathlib.Path):
    """A folder as `export` makes it, without a run folder, which would take longer."""
    weights_ = layouts.recognise(tensors).weights
    names = tuple(f"class {index}" for index in range(18))
    names = names if config.method.name == "classification" else ()
    parts = {"params": weights_.params, "stats": weights_.stats, "teacher": {}, "memory": {}}
    model = TrainedModel(make_run(config, names), parts, "latest", 7)
    description = of_run(config, model.run.method.image_size, names)
    card = model_card.render(model, folder, description)
    exported_folder.write(folder, tensors, description, config, card)
    return model


@pytest.mark.reference
def test_torchvision_classifies_by_the_cards_own_lines(torchvisions, tmp_path, monkeypatch):
    names = tuple(f"class {index}" for index in range(18))
    config = config_of("classification")
    exported_folder.write(
        tmp_path / "theirs", torchvisions, of_run(config, 68, names), config, "no card"
    )
    import_weights(tmp_path / "theirs", tmp_path / "run")
    weights.export_weights(tmp_path / "run", tmp_path / "ours")
    theirs = run_lines(tmp_path / "ours", monkeypatch)["logits"]
    expected = load_run(tmp_path / "run").outputs("image.jpg")
    np.testing.assert_allclose(theirs.numpy(), expected, atol=1e-4)


@pytest.mark.reference
def test_torchvision_has_a_puzzles_features_by_the_cards_own_lines(
    torchvisions, tmp_path, monkeypatch
):
    model = exported_by_hand(config_of("jigsaw"), torchvisions, tmp_path / "ours")
    theirs = run_lines(tmp_path / "ours", monkeypatch)["features"]
    expected = model.features("image.jpg")
    assert theirs.shape == expected.shape == (1, 4096)
    np.testing.assert_allclose(theirs.numpy(), expected, atol=1e-4)


@pytest.mark.reference
@pytest.mark.parametrize(
    ("method", "name", "stem", "libraries"),
    [
        ("classification", "resnet18", "imagenet", ("torchvision", "timm")),
        ("rotation", "resnet18", "imagenet", ("torchvision", "timm")),
        ("classification", "resnet18", "small", ("torchvision",)),
        ("rotation", "resnet10", "strided", ("torchvision",)),
    ],
)
def test_a_resnet_by_the_cards_own_lines(method, name, stem, libraries, tmp_path, monkeypatch):
    torch, torchvision = references.load("torch"), references.load("torchvision")
    references.load("timm")
    torch.manual_seed(0)
    blocks = [1 if name == "resnet10" else 2] * 4
    theirs = torchvision.models.ResNet(
        torchvision.models.resnet.BasicBlock, blocks, num_classes=4 if method == "rotation" else 18
    )
    if stem != "imagenet":
        side, stride = {"small": (3, 1), "strided": (5, 2)}[stem]
        theirs.conv1 = torch.nn.Conv2d(3, 64, side, stride, side // 2, bias=False)
    for key, tensor in theirs.state_dict().items():
        if key.endswith("running_mean"):
            tensor.normal_(std=0.1)
    tensors = {key: value.numpy() for key, value in theirs.state_dict().items()}
    config = config_of(method, name, stem=stem)
    model = exported_by_hand(config, tensors, tmp_path / "ours")
    assert re.findall("### In (.*)", card_of(tmp_path / "ours")[1]) == [*libraries, "ssljax"]
    for library in libraries:
        names = run_lines(tmp_path / "ours", monkeypatch, library)
        if method == "classification":
            found, expected = names["logits"], model.outputs("image.jpg")
        else:
            found, expected = names["features"], model.features("image.jpg")
            assert model.layer_names == ("stem", "layer1", "layer2", "layer3", "layer4", "pool")
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-4)


@pytest.mark.reference
@pytest.mark.parametrize(("method", "pool"), [("classification", "token"), ("rotation", "avg")])
def test_a_vision_transformer_by_the_cards_own_lines(method, pool, tmp_path, monkeypatch):
    torch = references.load("torch")
    timm = references.load("timm.models.vision_transformer")
    torch.manual_seed(0)
    theirs = timm.VisionTransformer(
        img_size=68, patch_size=4, embed_dim=32, depth=2, num_heads=4, global_pool=pool,
        num_classes=4 if method == "rotation" else 18,
    )  # fmt: skip
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    tensors = {name: value.numpy() for name, value in theirs.state_dict().items()}
    options = {"width": 1 / 6, "depth": 2, "heads": 4, "patch": 4, "pool": pool}
    config = config_of(method, "vit_tiny", **options)
    model = exported_by_hand(config, tensors, tmp_path / "ours")
    names = run_lines(tmp_path / "ours", monkeypatch, "timm")
    if method == "classification":
        found, expected = names["logits"], model.outputs("image.jpg")
    else:
        found, expected = names["features"], model.features("image.jpg")
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-4)


def test_several_heads_go_there_and_back(tmp_path):
    import tests.plugin  # noqa: F401, adds the method

    config = config_of("follow", width=1 / 64, batch_norm=True)
    run = make_run(config, ())
    fast = {"xla_backend_optimization_level": 0}
    params, stats = jax.jit(run.initial_variables, compiler_options=fast)()
    layout = layouts.layout_of(config.model)
    tensors = layout.write(params, stats)
    assert {"ssljax/params/projector/kernel", "features.1.running_var"} <= set(tensors)
    exported_folder.write(tmp_path / "out", tensors, of_run(config, 68, ()), config, "")
    import_weights(tmp_path / "out", tmp_path / "run")
    back = load_run(tmp_path / "run")
    for found, expected in ((back.params, params), (back.parts["stats"], stats)):
        jax.tree.map(np.testing.assert_array_equal, found, expected)
    with pytest.raises(InputError, match="imported weights have no teacher and no memory, so the"):
        evaluate(tmp_path / "run")
    del tensors["ssljax/params/predictor/bias"]
    exported_folder.write(tmp_path / "less", tensors, of_run(config, 68, ()), config, "")
    with pytest.raises(InputError, match=r"predictor has bias missing, expected \(8,\)"):
        import_weights(tmp_path / "less", tmp_path / "other")


@pytest.fixture(scope="module", params=["classification", "jigsaw"])
def exported(request, classification_run, pretext_run, tmp_path_factory):
    """A trained and evaluated run, the folder that it is handed over in, and the run of that."""
    folder = tmp_path_factory.mktemp("exported")
    source = classification_run if request.param == "classification" else pretext_run
    run = shutil.copytree(source, folder / "run")
    save(evaluate(run), run)
    save(evaluate(run, split="images[500:540]", checkpoint="latest"), run)
    weights.export_weights(run, folder / "out", licence="cc0-1.0")
    import_weights(folder / "out", folder / "back")
    return run, folder / "out", folder / "back"


def test_a_folder_comes_back_as_the_same_run(exported, data_dir):
    run, _, back = exported
    before, after = load_run(run), load_run(back)
    if before.run.method.names_classes:
        np.testing.assert_array_equal(before.outputs(IMAGES), after.outputs(IMAGES))
    jax.tree.map(np.testing.assert_array_equal, before.params, after.params)
    np.testing.assert_array_equal(before.features(IMAGES), after.features(IMAGES))
    assert before.run.config.method == after.run.config.method
    assert before.run.config.model == after.run.config.model
    assert before.step == after.step
    expected, found = (evaluate(folder, data_dir=data_dir) for folder in (run, back))
    assert found["metrics"] == expected["metrics"]


def test_a_folder_says_nothing_of_the_machine(exported, data_dir, classification_run):
    run, out, _ = exported
    assert {path.name for path in out.iterdir()} == {
        "model.safetensors",
        "config.json",
        "README.md",
    }
    for path in out.iterdir():
        content = path.read_bytes()
        for private in (data_dir, run.parent, classification_run.parent, pathlib.Path.home()):
            assert str(private).encode() not in content, path
    config = json.loads((out / "config.json").read_text())
    assert config["data"]["data_dir"] == ""
    assert config["init_from"] in ("", "pretext")


def test_the_card_has_the_results_and_their_commands(exported):
    run, out, _ = exported
    head, text = card_of(out)
    model = load_run(run)
    assert head["license"] == "cc0-1.0"
    assert head["datasets"] == ["zalando-datasets/fashion_mnist"]
    assert model.run.config.method.name in head["tags"]
    for result in map(json.loads, map(pathlib.Path.read_text, (run / "evaluation").glob("*.json"))):
        assert f"'--split={result['split']}' --checkpoint={result['step']}" in text
        for name, value in result["metrics"].items():
            chance = result["chance"].get(name)
            guess = "" if chance is None else f"{chance:.4f}"
            assert f"| `{name}` | {value:.4f} | {guess} |" in text
        in_head = [
            {metric["name"]: metric["value"] for metric in each["metrics"]}
            for each in head["model-index"][0]["results"]
            if each["dataset"]["split"] == result["split"]
        ]
        if result["step"] == model.step:
            values = {k: pytest.approx(v, abs=1e-6) for k, v in result["metrics"].items()}
            assert in_head == [{k: v for k, v in values.items() if k != "loss"}]
        else:
            assert not in_head
    assert "licence of the data: [MIT]" in text
    assert "200 images" in text
    assert "it has no `width` other than 1, and this one's is 0.0625" in text
    assert "on the validation split `images[200:300]`" in text


def test_the_card_counts_the_share_that_was_trained_on(make_config, tmp_path):
    config = make_config("classification").copy_and_resolve_references().unlock()
    config.epochs, config.batch_size, config.data.label_fraction = 1, 8, 0.05
    config.data.data_dir = str(tmp_path / "data")
    train(config, tmp_path / "run")
    model = load_run(tmp_path / "run")
    images = len(training_records(model.run))
    assert images < 20
    weights.export_weights(tmp_path / "run", tmp_path / "out")
    line = "- trained on: 5 % of each class of split `images[:200]`"
    text = card_of(tmp_path / "out")[1]
    assert f"{line}, {images} of 200 images\n- validated on: split `images[200:300]`" in text
    shutil.rmtree(tmp_path / "data")
    weights.export_weights(tmp_path / "run", tmp_path / "again")
    assert f"{line}\n" in card_of(tmp_path / "again")[1]


@pytest.mark.quick
@given(st.text())
def test_texts_stay_texts(text):
    values = {"a": [{"b": text, "c": [1e-05, 2, text]}, text], "d": {"e": text, "f": []}}
    found = yaml.safe_load(front_matter.render(values).strip("-"))
    assert found == values
    span = markdown.code(text)
    fence = re.match("`+", span)[0]
    assert span.endswith(fence)
    assert "\n" not in span
    assert not re.search(f"(?<!`){fence}(?!`)", span[len(fence) : -len(fence)])
    block = markdown.block("", text).split("\n")
    assert not any(line.strip().startswith(block[0]) for line in block[1:-1])


def test_names_of_strangers_are_text_on_the_card(classification_run, tmp_path):
    run = shutil.copytree(classification_run, tmp_path / "run")
    result = {
        "dataset": HOSTILE, "split": HOSTILE, "checkpoint": HOSTILE, "examples": 3,
        "step": load_run(run).step, "metrics": {HOSTILE: 0.5}, "standard_error": {HOSTILE: 0.1},
        "chance": {},
    }  # fmt: skip
    (run / "evaluation").mkdir(exist_ok=True)
    (run / "evaluation/hostile.json").write_text(json.dumps(result))
    weights.export_weights(run, tmp_path / "out")
    head, text = card_of(tmp_path / "out")
    assert head["model-index"][0]["results"][0]["dataset"]["split"] == HOSTILE
    outside = re.sub(r"(?ms)^(`{3,})\w*$.*?^\1$", "", text)  # of blocks
    outside = re.sub(r"(?s)(?<!`)(`+)(?!`).*?(?<!`)\1(?!`)", "", outside)  # and of spans
    assert "script" not in outside
    assert "rm -rf" not in outside
    for damaged in (
        '{"dataset": 1}', "[]", "{", "{}", "", "[" * 10**5, json.dumps({**result, "step": -1}),
        json.dumps({**result, "metrics": {HOSTILE: float("nan")}}),
    ):  # fmt: skip
        (run / "evaluation/hostile.json").write_text(damaged)
        with pytest.raises(InputError, match=r"(?s)hostile.json is damaged: .*; evaluate again"):
            weights.export_weights(run, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_where_weights_can_be_exported_to(classification_run, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").write_text("")
    for name, said in (
        ("full", "full exists already; name a new folder, or an empty one"),
        ("file", "file exists already"),
        ("file/new", "cannot write"),
        ("weights.bin", "weights.bin: a file of weights must end in .pth"),
    ):
        with pytest.raises(InputError, match=said):
            weights.export_weights(classification_run, tmp_path / name)
    assert {path.name for path in tmp_path.iterdir()} == {"empty", "file", "full"}
    with pytest.raises(InputError, match="weights are exported to a disk"):
        weights.export_weights(classification_run, "gs://bucket/folder")
    weights.export_weights(classification_run, tmp_path / "empty")
    assert len(list((tmp_path / "empty").iterdir())) == 3
    (tmp_path / "empty/config.json").unlink()
    with pytest.raises(InputError, match="empty has no config.json; expected a file of weights"):
        import_weights(tmp_path / "empty", tmp_path / "run")
    with pytest.raises(InputError, match="full has no model.safetensors and no config.json"):
        import_weights(tmp_path / "full", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_what_is_given_comes_before_what_a_folder_says(exported, tmp_path):
    _, out, _ = exported
    import_weights(out, tmp_path / "run", Description(dataset="other", std=(1.0, 1.0, 1.0)))
    config = load_run(tmp_path / "run").run.config
    assert (config.data.dataset, config.data.std) == ("other", (1.0, 1.0, 1.0))
