# The demo image: the standard appliance, with the pod double in the place of
# Prose's own images, from the directory where "make build" leaves it.

packer {
  required_plugins {
    prose = {
      source  = "github.com/prose-im/prose"
      version = ">= 0.0.0"
    }
  }
}

source "prose" "demo" {
  name    = "prose"
  formats = ["qcow2"]

  pod {
    mirror = {
      "docker.io/proseim" = "oci:${path.root}/../../bin/pod"
    }
  }

  # The lock of the same recipe as a file: prose-image bakes the same bytes.
  lock             = "${path.root}/../recipes/demo.lock"
  output_directory = "output-demo"
}

build {
  sources = ["source.prose.demo"]

  post-processor "checksum" {
    checksum_types = ["sha256"]
    output         = "output-demo/checksums"
  }

  # Files by version, checksums, an index and a pointer to the latest. The
  # directory must be there: mkdir published
  post-processor "prose-publish" {
    target = "published"
  }
}
