"""Stand-ins for TensorFlow Serving on this machine.

They load a SavedModel, answer its state and predictions over REST, predictions over
gRPC, as the documentation says TensorFlow Serving does, and refuse what it refuses.
"""

import json
import re
import threading
from concurrent import futures
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import tensorflow as tf

# GET: the state of a model; POST: a prediction.
ADDRESSES = {
    "GET": re.compile(r"/v1/models/([^/:]+)(?:/versions/(\d+))?"),
    "POST": re.compile(r"/v1/models/([^/:]+)(?:/versions/(\d+))?:predict"),
}
DEFAULT = "serving_default"


class Refusal(Exception):
    """A request that TensorFlow Serving answers with an error."""

    def __init__(self, code, reason):
        super().__init__(reason)
        self.code = code


def inputs_of(signatures, name):
    """The specs of what a signature takes, by name."""
    if name not in [*signatures]:
        raise Refusal(400, f"Serving signature name: {name} not found")
    return signatures[name].structured_input_signature[1]


def run(signatures, name, inputs):
    """The outputs of a signature, as arrays; inputs are arrays."""
    specs = inputs_of(signatures, name)
    if inputs.keys() != specs.keys():
        raise Refusal(400, f"Expected the inputs {[*specs]}, got {[*inputs]}")
    for key, spec in specs.items():
        found = tf.TensorSpec(inputs[key].shape, inputs[key].dtype)
        if not spec.is_compatible_with(found):
            raise Refusal(400, f"{key} is {found}, expected {spec}")
    tensors = {key: tf.constant(value) for key, value in inputs.items()}
    try:
        outputs = signatures[name](**tensors)
    except tf.errors.InvalidArgumentError as error:
        raise Refusal(400, error.message) from error
    return {key: value.numpy() for key, value in outputs.items()}


def parsed(specs, inputs):
    """What JSON holds, as arrays of the types that the signature takes.

    A number with a fraction is no integer, an integer is also a float.
    """
    arrays = {}
    for key, value in inputs.items():
        try:
            array = np.asarray(value)
        except ValueError as error:
            raise Refusal(400, f"{key} is no tensor: {error}") from error
        wanted = specs[key].dtype
        kinds = "iu" if wanted.is_integer else "iuf"
        if array.dtype.kind not in kinds:
            raise Refusal(400, f"JSON Value of {key} is not of type {wanted.name}")
        arrays[key] = array.astype(wanted.as_numpy_dtype)
    return arrays


class _Handler(BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def answer(self, code, body):
        body = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def respond(self, method):
        try:
            match = ADDRESSES[self.command].fullmatch(self.path)
            if match is None:
                raise Refusal(400, f"Malformed request: {self.command} {self.path}")
            model, version = match.groups()
            if model != self.server.model or version not in (None, "1"):
                raise Refusal(404, f"Servable not found for request: {self.path}")
            self.server.requests.append((self.command, model, version))
            self.answer(200, method())
        except Refusal as refusal:
            self.answer(refusal.code, {"error": str(refusal)})

    def do_GET(self):
        def status():
            status = {"error_code": "OK", "error_message": ""}
            version = {"version": "1", "state": "AVAILABLE", "status": status}
            return {"model_version_status": [version]}

        self.respond(status)

    def do_POST(self):
        def predict():
            try:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            except ValueError as error:
                raise Refusal(400, f"JSON Parse error: {error}") from error
            if not isinstance(body, dict) or ("instances" in body) == (
                "inputs" in body
            ):
                raise Refusal(400, "Needs an object with `instances` or `inputs`")
            name = body.get("signature_name", DEFAULT)
            if "inputs" in body:
                return {"outputs": self.columns(name, body["inputs"])}
            return {"predictions": self.rows(name, body["instances"])}

        self.respond(predict)

    def named(self, name, value):
        """Inputs by name: those of a signature with one input may come without."""
        specs = inputs_of(self.server.signatures, name)
        if isinstance(value, dict):
            if value.keys() != specs.keys():
                raise Refusal(400, f"Expected the inputs {[*specs]}, got {[*value]}")
            return value
        if len(specs) > 1:
            raise Refusal(400, "Inputs must be named")
        return {next(iter(specs)): value}

    def outputs(self, name, inputs):
        specs = inputs_of(self.server.signatures, name)
        return run(self.server.signatures, name, parsed(specs, inputs))

    def columns(self, name, inputs):
        outputs = self.outputs(name, self.named(name, inputs))
        outputs = {key: value.tolist() for key, value in outputs.items()}
        return outputs if len(outputs) > 1 else next(iter(outputs.values()))

    def rows(self, name, instances):
        if not isinstance(instances, list) or not instances:
            raise Refusal(400, "`instances` must be a list that is not empty")
        instances = [self.named(name, instance) for instance in instances]
        inputs = {key: [row[key] for row in instances] for key in instances[0]}
        outputs = self.outputs(name, inputs)
        if any(len(value) != len(instances) for value in outputs.values()):
            raise Refusal(400, "Outputs must have the batch first")
        rows = [
            {key: value[index].tolist() for key, value in outputs.items()}
            for index in range(len(instances))
        ]
        return rows if len(outputs) > 1 else [next(iter(row.values())) for row in rows]


@contextmanager
def rest(path, model):
    """Serves a SavedModel over REST; gives the server, its address in `url`."""
    server = ThreadingHTTPServer(("localhost", 0), _Handler)
    server.signatures = tf.saved_model.load(str(path)).signatures
    server.model, server.requests = model, []
    server.url = f"http://localhost:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def grpc(path, model):
    """Serves a SavedModel over gRPC; gives the port."""
    import grpc as protocol
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    signatures = tf.saved_model.load(str(path)).signatures

    class Service(prediction_service_pb2_grpc.PredictionServiceServicer):
        def Predict(self, request, context):
            assert request.model_spec.name == model
            inputs = {key: tf.make_ndarray(x) for key, x in request.inputs.items()}
            name = request.model_spec.signature_name or DEFAULT
            try:
                outputs = run(signatures, name, inputs)
            except Refusal as refusal:
                context.abort(protocol.StatusCode.INVALID_ARGUMENT, str(refusal))
            response = predict_pb2.PredictResponse()
            for key, value in outputs.items():
                response.outputs[key].CopyFrom(tf.make_tensor_proto(value))
            return response

    server = protocol.server(futures.ThreadPoolExecutor(1))
    add = prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server
    add(Service(), server)
    port = server.add_insecure_port("localhost:0")
    server.start()
    try:
        yield port
    finally:
        server.stop(None).wait()
