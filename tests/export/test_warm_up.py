import keras
import pytest
from helpers import small_capsnet

from keras_capsules import export

if keras.backend.backend() != "tensorflow":
    pytest.skip("only TensorFlow exports SavedModels", allow_module_level=True)


def test_the_requests_are_answered(tmp_path):
    import tensorflow as tf
    from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

    path = export.export_saved_model(small_capsnet(), tmp_path, warm_up=True)
    served = tf.saved_model.load(path).signatures
    file = path / "assets.extra" / "tf_serving_warmup_requests"
    asked = []
    for record in tf.data.TFRecordDataset(str(file)):
        request = PredictionLog.FromString(record.numpy()).predict_log.request
        asked.append(request.model_spec.signature_name)
        inputs = {name: tf.make_ndarray(x) for name, x in request.inputs.items()}
        inputs = {name: tf.constant(x) for name, x in inputs.items()}
        outputs = served[asked[-1]](**inputs)
        assert all(len(value) == 1 for value in outputs.values())
    assert sorted(asked) == sorted(served)


def test_without_the_api_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"keras_capsules\[serve\]"):
        export.export_saved_model(small_capsnet(), tmp_path, warm_up=True)
    assert not list(tmp_path.iterdir())
