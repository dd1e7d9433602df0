package dockerstore

import (
	"fmt"
	"strings"
)

// An UnreachableError is a registry that does not answer, or answers that it
// cannot serve.
type UnreachableError struct {
	Registry string // HOST[:PORT]
	Err      error
}

func (e *UnreachableError) Error() string {
	return fmt.Sprintf("registry %s cannot be reached: %v", e.Registry, e.Err)
}

func (e *UnreachableError) Unwrap() error { return e.Err }

// Hint is the next thing to do.
func (e *UnreachableError) Hint() string {
	return "check the network, or name another registry for " + e.Registry + " under pod.mirror"
}

// A NotFoundError is an image, or a part of one, that is not where it was
// looked for.
type NotFoundError struct {
	Image string // reference, or reference and the blob's digest
	Where string // "registry HOST", "OCI layout DIR", "docker archive FILE"
}

func (e *NotFoundError) Error() string {
	return fmt.Sprintf("%s has no image %s", e.Where, e.Image)
}

// Hint is the next thing to do.
func (e *NotFoundError) Hint() string {
	return "check the name and the tag; if the image was removed there, name a registry that still has it under pod.mirror"
}

// A DeniedError is a registry that refuses the image to these credentials.
// Docker Hub answers so for a name that does not exist too.
type DeniedError struct {
	Image    string
	Registry string
	Err      error
}

func (e *DeniedError) Error() string {
	return fmt.Sprintf("registry %s denies access to %s: %v", e.Registry, e.Image, e.Err)
}

func (e *DeniedError) Unwrap() error { return e.Err }

// Hint is the next thing to do.
func (e *DeniedError) Hint() string {
	return "check the spelling of the name, or log in: docker login " + e.Registry
}

// A DigestError is content that is not what its digest says.
type DigestError struct {
	What      string // the image or the part of it
	Where     string // where it came from
	Want, Got string // digests
}

func (e *DigestError) Error() string {
	return fmt.Sprintf("%s from %s has digest %s, not %s", e.What, e.Where, e.Got, e.Want)
}

// Hint is the next thing to do.
func (e *DigestError) Hint() string {
	return "the content was damaged or replaced; fetch it from another place, or move the lock if the change is wanted"
}

// A PlatformError is an image that is not made for the platform asked for.
type PlatformError struct {
	Image string
	Want  string   // OS/ARCH
	Have  []string // OS/ARCH of what there is
}

func (e *PlatformError) Error() string {
	return fmt.Sprintf("image %s is not made for %s, only for %s", e.Image, e.Want, strings.Join(e.Have, ", "))
}

// Hint is the next thing to do.
func (e *PlatformError) Hint() string {
	return "bake for an arch that the image has, or choose another image"
}

// An EngineError is an engine whose store has another format.
type EngineError struct{ Version string }

func (e *EngineError) Error() string {
	return fmt.Sprintf("docker engine %s does not read the overlay2 store of 20.10 to 28", e.Version)
}

// Hint is the next thing to do.
func (e *EngineError) Hint() string {
	return "install docker engine 20.10 or later and before 29"
}
