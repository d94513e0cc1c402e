"""Bills of materials of the images, CycloneDX 1.6, out of their locks: `python -m tests.support.sbom`."""

from __future__ import annotations

import argparse
import sys
from importlib.metadata import version
from pathlib import Path

from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, XsUri
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from packageurl import PackageURL
from pip_requirements_parser import InstallRequirement, RequirementsFile

REQUIREMENTS = Path(__file__).parents[2] / "requirements"
IMAGES = ("inference", "monitor")
# Where images run; the lock is for every platform.
ENVIRONMENT = {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix", "python_version": "3.11"}


def bill(image: str) -> Bom:
    """What is installed into an image. Each file that the lock allows is told by its SHA-256."""
    described = Component(
        name=f"fusionwatch-{image}", version=version("fusionwatch"), type=ComponentType.CONTAINER, bom_ref="image"
    )
    parts = [_component(each) for each in locked(image)]
    bom = Bom(components=parts)
    bom.metadata.component = described
    bom.register_dependency(described, parts)
    return bom


def locked(image: str) -> list[InstallRequirement]:
    """The locked requirements that an image installs."""
    lines = RequirementsFile.from_file(str(REQUIREMENTS / f"{image}.txt")).requirements
    return [each for each in lines if each.marker is None or each.marker.evaluate(ENVIRONMENT)]


def _component(requirement: InstallRequirement) -> Component:
    name, number = str(requirement.name), str(requirement.get_pinned_version)
    url = PackageURL("pypi", name=name, version=number)
    hashes = [each.rpartition(":")[2] for each in requirement.hash_options]
    return Component(
        name=name,
        version=number,
        purl=url,
        bom_ref=str(url),
        external_references=[
            ExternalReference(
                type=ExternalReferenceType.DISTRIBUTION,
                url=XsUri(f"{url}#sha256={digest}"),
                hashes=[HashType(alg=HashAlgorithm.SHA_256, content=digest)],
            )
            for digest in hashes
        ],
    )


def main() -> None:
    """Write one file for each image."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("build"))
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    for image in IMAGES:
        path = out / f"sbom-{image}.json"
        writer = make_outputter(bill(image), OutputFormat.JSON, SchemaVersion.V1_6)
        path.write_text(writer.output_as_string(indent=1) + "\n")
        sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    main()
