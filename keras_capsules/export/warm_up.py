"""Warm-up requests, which TensorFlow Serving runs before it accepts others."""

import os
from pathlib import Path


def write_warm_up(folder: str | os.PathLike, signatures: dict) -> None:
    """Writes a warm-up request for each signature, with one image of zeros.

    The first request of a signature is slow, because its graph is prepared. Warm-up
    requests let the server do this before it accepts other requests.

    Args:
        folder: the folder of a version of a SavedModel.
        signatures: the specs of the inputs of each signature, by name.

    Raises:
        ModuleNotFoundError: tensorflow-serving-api is missing.
    """
    import tensorflow as tf
    from tensorflow_serving.apis.predict_pb2 import PredictRequest
    from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog, PredictLog

    extra = Path(folder) / "assets.extra"
    extra.mkdir()
    with tf.io.TFRecordWriter(str(extra / "tf_serving_warmup_requests")) as records:
        for name, specs in signatures.items():
            request = PredictRequest()
            request.model_spec.signature_name = name
            for spec in specs:
                zeros = tf.zeros((1, *spec.shape[1:]), spec.dtype)
                request.inputs[spec.name].CopyFrom(tf.make_tensor_proto(zeros))
            log = PredictionLog(predict_log=PredictLog(request=request))
            records.write(log.SerializeToString())
