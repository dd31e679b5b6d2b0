import subprocess
import sys

import keras
import numpy as np
import pytest
from helpers import random_images, small_capsnet, small_matrix_capsnet

from keras_capsules import export, files, models, routing

on_tensorflow = keras.backend.backend() == "tensorflow"
only_tensorflow = pytest.mark.skipif(
    not on_tensorflow, reason="only TensorFlow exports SavedModels"
)

# A process in which neither our package nor Keras can be imported.
SERVE = """
import sys
sys.modules["keras_capsules"] = None
sys.modules["keras"] = None
import numpy as np, tensorflow as tf
served = tf.saved_model.load(sys.argv[1]).signatures
for count in (1, 5):
    images = tf.constant(np.load("images.npy")[:count])
    outputs = {**served["serving_default"](images=images)}
    outputs.update(served["reconstruct"](images=images))
    np.savez(f"outputs_{count}.npz", **outputs)
"""


def nodes_of(path, signature):
    """The nodes of the graph of a signature, those of its functions included."""
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    graph = SavedModel()
    graph.ParseFromString((path / "saved_model.pb").read_bytes())
    graph = graph.meta_graphs[0]
    functions = {f.signature.name: f.node_def for f in graph.graph_def.library.function}
    output = next(iter(graph.signature_def[signature].outputs.values()))
    name = output.name.split(":")[0]
    nodes = [node for node in graph.graph_def.node if node.name == name]
    while nodes:
        node = nodes.pop()
        yield node
        for value in node.attr.values():
            nodes += functions.get(value.func.name, [])


def while_ops(path, signature):
    """How many loops the graph of a signature holds."""
    ops = [node.op for node in nodes_of(path, signature)]
    return ops.count("While") + ops.count("StatelessWhile")


@pytest.fixture(scope="module", params=[small_capsnet, small_matrix_capsnet])
def exported(request, tmp_path_factory):
    """A network with weights of its own, and where it was exported to."""
    model = request.param(decoder_units=(8,))
    rng = np.random.default_rng(0)
    for weight in model.weights:
        noise = rng.normal(scale=0.05, size=weight.shape)
        weight.assign_add(noise.astype("float32"))
    folder = tmp_path_factory.mktemp("exported")
    return model, folder, export.export_saved_model(model, folder)


@only_tensorflow
def test_served_without_our_code(exported, tmp_path):
    model, folder, path = exported
    assert path == folder / "1"
    images, _ = random_images(5, model.image_shape)
    np.save(tmp_path / "images.npy", images)
    subprocess.run([sys.executable, "-c", SERVE, path], cwd=tmp_path, check=True)
    outputs = model.predict(images, verbose=0)
    expected = {
        **outputs,
        "classes": outputs["scores"].argmax(-1),
        "reconstructions": model.reconstruct(images),
    }
    for count in (1, 5):
        with np.load(tmp_path / f"outputs_{count}.npz") as served:
            assert set(served) == set(expected)
            assert served["classes"].dtype == "int32"
            for name, value in expected.items():
                np.testing.assert_allclose(served[name], value[:count], atol=1e-5)


@only_tensorflow
def test_no_python_in_the_graph(exported):
    model, _, path = exported
    names = ["serving_default", "serving_uint8", "reconstruct", "decode"]
    if isinstance(model, models.MatrixCapsNet):
        names.append("trace")
    for name in names:
        ops = {node.op for node in nodes_of(path, name)}
        assert len(ops) > 5 and not any("PyFunc" in op for op in ops)


@only_tensorflow
def test_weights_are_there_once(exported):
    model, _, path = exported
    (data,) = (path / "variables").glob("*.data-*")
    weights = 4 * model.count_params()
    assert weights < data.stat().st_size < 1.5 * weights + 1000


@only_tensorflow
@pytest.mark.parametrize(
    ("iterations", "loop", "loops"),
    [(1, "while", 1), (3, "while", 2), (5, "while", 2), (3, "unroll", 1)],
)
def test_loops_in_the_graph(tmp_path, iterations, loop, loops):
    model = small_capsnet(routing=routing.DynamicRouting(iterations, loop))
    path = export.export_saved_model(model, tmp_path)
    assert while_ops(path, "serving_default") == loops
    assert while_ops(path, "reconstruct") == loops


@only_tensorflow
def test_outputs_are_float32_in_low_precision(tmp_path):
    import tensorflow as tf

    model = small_capsnet(dtype="mixed_bfloat16")
    served = tf.saved_model.load(export.export_saved_model(model, tmp_path)).signatures
    outputs = served["serving_default"].structured_outputs
    assert outputs["scores"].dtype == outputs["poses"].dtype == tf.float32


@only_tensorflow
def test_a_version_is_replaced_only_on_demand(tmp_path):
    model = small_capsnet()
    path = export.export_saved_model(model, tmp_path, version=2)
    before = (path / "saved_model.pb").stat().st_mtime_ns
    with pytest.raises(ValueError, match=r"`version` must be new: .*2 exists"):
        export.export_saved_model(model, tmp_path, version=2)
    assert (path / "saved_model.pb").stat().st_mtime_ns == before
    export.export_saved_model(model, tmp_path, version=2, overwrite=True)
    assert (path / "saved_model.pb").stat().st_mtime_ns > before
    assert [folder.name for folder in tmp_path.iterdir()] == ["2"]


@only_tensorflow
@pytest.mark.parametrize("step", ["writing", "renaming"])
def test_a_failed_export_leaves_the_version_as_it_was(tmp_path, monkeypatch, step):
    model = small_capsnet()
    path = export.export_saved_model(model, tmp_path)
    before = (path / "saved_model.pb").read_bytes()

    def fail(self, folder, options, verbose):
        folder.mkdir()
        raise OSError("no space left")

    def fail_to_put(unfinished, path):
        assert not path.exists()  # what was there is put away already
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"), monkeypatch.context() as patch:
        if step == "writing":
            patch.setattr(type(keras.export.ExportArchive()), "write_out", fail)
        else:
            patch.setattr(files, "replace", fail_to_put)
        export.export_saved_model(model, tmp_path, overwrite=True)
    assert (path / "saved_model.pb").read_bytes() == before
    assert [folder.name for folder in tmp_path.iterdir()] == ["1"]


@only_tensorflow
def test_a_killed_export_loses_nothing(tmp_path):
    # Killed between two renames: the version is there under another name.
    left = tmp_path / "unfinished-1-abc"
    (left / "1").mkdir(parents=True)
    (left / "replaced").mkdir()
    (left / "replaced" / "saved_model.pb").write_text("kept")
    with pytest.raises(ValueError, match="1 exists"):
        export.export_saved_model(small_capsnet(), tmp_path)
    assert [folder.name for folder in tmp_path.iterdir()] == ["1"]
    assert (tmp_path / "1" / "saved_model.pb").read_text() == "kept"


@only_tensorflow
def test_two_exports_at_once(tmp_path, monkeypatch):
    model, archive = small_capsnet(), type(keras.export.ExportArchive())
    write_out, refused = archive.write_out, []

    def export_another_meanwhile(self, folder, *args, **kwargs):
        with pytest.raises(ValueError, match=r"two exports at once.*/1\b") as error:
            export.export_saved_model(model, tmp_path, overwrite=True)
        refused.append(error)
        write_out(self, folder, *args, **kwargs)

    monkeypatch.setattr(archive, "write_out", export_another_meanwhile)
    path = export.export_saved_model(model, tmp_path)
    assert refused and (path / "saved_model.pb").exists()
    assert [folder.name for folder in tmp_path.iterdir()] == ["1"]


@only_tensorflow
def test_bad_arguments(tmp_path):
    with pytest.raises(ValueError, match="`version`"):
        export.export_saved_model(small_capsnet(), tmp_path, version="latest")
    with pytest.raises(ValueError, match="`model` must be a network"):
        export.export_saved_model(keras.Sequential([keras.Input((2,))]), tmp_path)
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match=r"`preprocess` must be a function.*=255"):
        export.export_saved_model(small_capsnet(), tmp_path, preprocess=255)
    with pytest.raises(ValueError, match=r"`pixels_shape`.*\(48, 48\)"):
        export.export_saved_model(small_capsnet(), tmp_path, pixels_shape=(48, 48))
    with pytest.raises(ValueError, match=r"`pixels_shape` needs `preprocess`"):
        export.export_saved_model(small_capsnet(), tmp_path, pixels_shape=(48, 48, 1))
    for flag in ("overwrite", "warm_up"):
        with pytest.raises(ValueError, match=f"`{flag}` must be True or False"):
            export.export_saved_model(small_capsnet(), tmp_path, **{flag: "no"})
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"folder that can be written.*file"):
        export.export_saved_model(small_capsnet(), tmp_path / "file")


@pytest.mark.skipif(on_tensorflow, reason="TensorFlow does export SavedModels")
def test_other_backends_say_what_to_do(tmp_path):
    with pytest.raises(RuntimeError, match="Only TensorFlow exports networks"):
        export.export_saved_model(small_capsnet(), tmp_path)
    assert not list(tmp_path.iterdir())


@only_tensorflow
def test_a_network_without_decoder_or_poses(tmp_path):
    import tensorflow as tf

    model = models.BaselineCNN((8, 8, 1), classes=3, filters=(2, 3), units=4)
    path = export.export_saved_model(model, tmp_path)
    served = tf.saved_model.load(path).signatures
    assert set(served) == {"serving_default", "serving_uint8"}
    outputs = served["serving_default"](images=tf.zeros((2, 8, 8, 1)))
    assert set(outputs) == {"scores", "classes"}
