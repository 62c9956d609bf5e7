"""Packaging of hashbeam: what is installed, and what it needs.

Run-time dependencies carry ranges, so that hashbeam fits beside other packages; `requirements.txt`
is the lock of all of them together with every extra (`make lock`), used as constraints by every
install of ours.
"""

from __future__ import annotations

from pathlib import Path

from setuptools import find_packages, setup

# What a worker or a look-up imports. No torch: models run as ONNX.
RUN_TIME = [
    "anyascii>=0.3",
    "apache-beam>=2.77,<3",
    "av>=14",
    "jinja2>=3.1",
    "mutagen>=1.47",
    "numba>=0.60",
    "numpy>=2.0,<3",
    "onnxruntime>=1.20",
    "pretty-midi>=0.2.10",
    "pyarrow>=18",
    "rapidfuzz>=3.9",
    "safetensors>=0.5",
    "scipy>=1.13",
    "soundfile>=0.13",
    "soxr>=0.5",
    "tqdm>=4.66",
]

EXTRAS = {
    # What makes a model; nothing outside hashing/training needs it.
    "train": [
        "faiss-cpu>=1.9",
        "onnx>=1.17",
        "pyroomacoustics>=0.8",
        "scipy>=1.13",
        "torch>=2.6",
        "zuko>=1.3",
    ],
    # gs:// paths and Dataflow.
    "gcp": [
        "apache-beam[gcp]>=2.77,<3",
        "google-cloud-storage>=2.18",
    ],
    # Tests, their independent references, and the checks of `make test`.
    "dev": [
        "faiss-cpu>=1.9",
        "hypothesis>=6.115",
        "jsonschema>=4.20",
        "librosa>=0.11",
        "mypy>=1.13",
        "packaging>=24",
        "pytest>=9",
        "pytest-xdist>=3.6",
        "pyyaml>=6",
        "ruff>=0.8",
        "scikit-learn>=1.5",
        "setuptools>=77",
    ],
}

setup(
    name="hashbeam",
    version="0.1.0",
    description="Learned audio hashing of whole music catalogues, offline, on Apache Beam",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    packages=find_packages(include=["hashing", "hashing.*", "pipelines", "pipelines.*"]),
    package_data={
        "hashing": ["pretrained/**/*"],
        "pipelines": ["report/**/*"],
    },
    exclude_package_data={"": ["**/__pycache__/**", "*.py[cod]"]},
    install_requires=RUN_TIME,
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["hashbeam=pipelines.cli:main"]},
    zip_safe=False,
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3.11",
        "Topic :: Multimedia :: Sound/Audio :: Analysis",
    ],
)
