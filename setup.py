from setuptools import find_packages, setup

# The trained networks lie beside the package in its repository and within it where it
# is installed.
setup(
    packages=[
        *find_packages(include=["keras_capsules", "keras_capsules.*"]),
        "keras_capsules.presets",
    ],
    package_dir={"keras_capsules.presets": "saved_models"},
    package_data={
        "keras_capsules": ["py.typed"],
        "keras_capsules.presets": [
            "capsule_classifier_multi_mnist/model.keras",
            "capsnet_mnist_small/model.keras",
            "efficient_capsnet_mnist_paper/model.keras",
            "matrix_capsnet_mnist_small/model.keras",
        ],
    },
)
