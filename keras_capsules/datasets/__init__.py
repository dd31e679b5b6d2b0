"""Data sets as `tf.data`, split into training, validation and test images.

`DeviceDataset` and its subclasses keep images in the memory of the device, such as a
GPU.
"""

from keras_capsules._backend import keep_gpus_from_tensorflow
from keras_capsules.datasets.aff_mnist import aff_mnist
from keras_capsules.datasets.cifar10 import cifar10
from keras_capsules.datasets.device import (
    DeviceDataset,
    OverlaidImages,
    ShiftedImages,
)
from keras_capsules.datasets.digits import digits
from keras_capsules.datasets.distorted_images import DistortedImages
from keras_capsules.datasets.distortion import random_distortion
from keras_capsules.datasets.eth80 import eth80
from keras_capsules.datasets.fashion_mnist import fashion_mnist
from keras_capsules.datasets.image_folder import (
    ImageFolder,
    image_files,
    image_folder,
    read_image,
)
from keras_capsules.datasets.mnist import mnist
from keras_capsules.datasets.multi_mnist import multi_mnist
from keras_capsules.datasets.photographs import central_crop
from keras_capsules.datasets.placement import random_flip, random_shift
from keras_capsules.datasets.smallnorb import smallnorb
from keras_capsules.datasets.splits import Splits
from keras_capsules.datasets.svhn import svhn
from keras_capsules.datasets.toys import toys
from keras_capsules.datasets.viewpoints import ViewpointSplits, viewpoint_split

__all__ = [
    "DeviceDataset",
    "DistortedImages",
    "ImageFolder",
    "OverlaidImages",
    "ShiftedImages",
    "Splits",
    "ViewpointSplits",
    "aff_mnist",
    "central_crop",
    "cifar10",
    "digits",
    "eth80",
    "fashion_mnist",
    "image_files",
    "image_folder",
    "mnist",
    "multi_mnist",
    "random_distortion",
    "random_flip",
    "random_shift",
    "read_image",
    "smallnorb",
    "svhn",
    "toys",
    "viewpoint_split",
]

keep_gpus_from_tensorflow()
