package dockerstore

import (
	"fmt"
	"regexp"
	"strings"
)

// A Reference is a parsed image name, in the grammar of
// github.com/distribution/reference.
type Reference struct {
	Domain string // registry: "docker.io" when the name has none
	Path   string // repository: with "library/" for official images of docker.io
	Tag    string // "latest" when the name has neither tag nor digest
	Digest string // "sha256:HEX", or empty
}

const (
	defaultDomain = "docker.io"
	legacyDomain  = "index.docker.io"
	officialPath  = "library/"
	defaultTag    = "latest"
	maxName       = 255 // bytes of domain and path
)

var (
	domainPattern = regexp.MustCompile(`^(?:(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])(?:\.(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9]))*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?$`)
	pathPattern   = regexp.MustCompile(`^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$`)
	tagPattern    = regexp.MustCompile(`^\w[\w.-]{0,127}$`)
	hexPattern    = regexp.MustCompile(`^[a-f0-9]{64}$`)
)

// ParseReference parses NAME[:TAG][@sha256:HEX].
func ParseReference(s string) (Reference, error) {
	var r Reference
	bad := func(why string) (Reference, error) {
		return Reference{}, fmt.Errorf("parsing image reference %q: %s", s, why)
	}
	name, digest, ok := strings.Cut(s, "@")
	if ok {
		if _, err := encoded(digest); err != nil {
			return bad("the digest is not sha256: and 64 hex digits")
		}
		r.Digest = digest
	}
	if hexPattern.MatchString(name) {
		return bad("it is an image id, not a name")
	}
	if colon := strings.LastIndexByte(name, ':'); colon > strings.LastIndexByte(name, '/') {
		name, r.Tag = name[:colon], name[colon+1:]
		if !tagPattern.MatchString(r.Tag) {
			return bad("the tag is not letters, digits, _ . and -, at most 128")
		}
	} else if r.Digest == "" {
		r.Tag = defaultTag
	}
	r.Domain, r.Path = splitDomain(name)
	if !domainPattern.MatchString(r.Domain) {
		return bad("its registry is not HOST[:PORT]")
	}
	if strings.ToLower(r.Path) != r.Path {
		return bad("the name must be lower case")
	}
	if !pathPattern.MatchString(r.Path) {
		return bad("it is not a name of lower-case words joined by / . _ and -")
	}
	if len(r.Name()) > maxName {
		return bad("the name is longer than 255 bytes")
	}
	return r, nil
}

// splitDomain tells a registry from the first word of a path as Docker does,
// and completes both.
func splitDomain(name string) (domain, path string) {
	first, rest, ok := strings.Cut(name, "/")
	if ok && (strings.ContainsAny(first, ".:") || first == "localhost" || strings.ToLower(first) != first) {
		domain, path = first, rest
	} else {
		domain, path = defaultDomain, name
	}
	if domain == legacyDomain {
		domain = defaultDomain
	}
	if domain == defaultDomain && !strings.Contains(path, "/") {
		path = officialPath + path
	}
	return domain, path
}

// Name is the full name: docker.io/library/nginx.
func (r Reference) Name() string { return r.Domain + "/" + r.Path }

// Familiar is the name as Docker shows and stores it: nginx.
func (r Reference) Familiar() string {
	if r.Domain != defaultDomain {
		return r.Name()
	}
	// "library/" stays when nothing but a path follows, as in docker.io/library/a/b.
	if short := strings.TrimPrefix(r.Path, officialPath); !strings.Contains(short, "/") {
		return short
	}
	return r.Path
}

func (r Reference) String() string {
	s := r.Familiar()
	if r.Tag != "" {
		s += ":" + r.Tag
	}
	if r.Digest != "" {
		s += "@" + r.Digest
	}
	return s
}
