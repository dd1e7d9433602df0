package dockerstore

import (
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
)

// A Mirror says where images are found instead of where their names say. A key
// is a registry ("docker.io"), a prefix of names that ends at a slash
// ("docker.io/proseim") or one name ("docker.io/proseim/prose-pod-server");
// docker.io may be left out. The longest key that fits wins. A value is one of
//
//	HOST[:PORT][/PATH]         a registry over https; on loopback http too
//	http://HOST[:PORT][/PATH]  a registry over plain http
//	oci:DIRECTORY              an OCI layout
//	docker-archive:FILE        a tar written by docker save
//
// and to a registry's path the rest of the name is added.
type Mirror map[string]string

// Check reports the first key or value that cannot be used.
func (m Mirror) Check() error {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		if domain, path := splitKey(k); k == "" || !domainPattern.MatchString(domain) || (path != "" && !pathPattern.MatchString(path)) {
			return fmt.Errorf("mirror %q: not a registry, or the beginning of an image name without tag", k)
		}
		if _, err := parseLocation(m[k], ""); err != nil {
			return fmt.Errorf("mirror %q: %w", k, err)
		}
	}
	return nil
}

// splitKey is splitDomain for what may be only the beginning of a name.
func splitKey(key string) (domain, path string) {
	key = strings.TrimSuffix(key, "/")
	first, rest, _ := strings.Cut(key, "/")
	if !strings.ContainsAny(first, ".:") && first != "localhost" {
		return defaultDomain, key
	}
	if first == legacyDomain {
		first = defaultDomain
	}
	return first, rest
}

// find returns where the image is, and whether that place was named for this
// image alone.
func (m Mirror) find(r Reference) (loc location, exact bool, err error) {
	best, value, rest := -1, "", ""
	for k, v := range m {
		domain, path := splitKey(k)
		if domain != r.Domain {
			continue
		}
		var left string
		switch {
		case path == "":
			left = r.Path
		case path == r.Path, domain == defaultDomain && officialPath+path == r.Path:
			path = r.Path
		case strings.HasPrefix(r.Path, path+"/"):
			left = r.Path[len(path)+1:]
		default:
			continue
		}
		// Two spellings of one key have one length; the value breaks the tie.
		if len(path) > best || len(path) == best && v < value {
			best, value, rest = len(path), v, left
		}
	}
	if best < 0 {
		return location{kind: atRegistry, host: r.Domain, plain: isLoopback(r.Domain), path: r.Path}, false, nil
	}
	loc, err = parseLocation(value, rest)
	return loc, rest == "", err
}

type locationKind int

const (
	atRegistry locationKind = iota
	atLayout
	atArchive
)

// A location is a place that holds one image or more.
type location struct {
	kind  locationKind
	host  string // registry
	plain bool   // http may be used with host
	path  string // repository, directory or file
}

func (l location) String() string {
	switch l.kind {
	case atLayout:
		return "OCI layout " + l.path
	case atArchive:
		return "docker archive " + l.path
	}
	return "registry " + l.host
}

func parseLocation(value, rest string) (location, error) {
	if dir, ok := strings.CutPrefix(value, "oci:"); ok {
		if dir == "" {
			return location{}, fmt.Errorf("%q names no directory", value)
		}
		return location{kind: atLayout, path: filepath.Clean(dir)}, nil
	}
	if file, ok := strings.CutPrefix(value, "docker-archive:"); ok {
		if file == "" {
			return location{}, fmt.Errorf("%q names no file", value)
		}
		return location{kind: atArchive, path: filepath.Clean(file)}, nil
	}
	l := location{kind: atRegistry}
	name := value
	if after, ok := strings.CutPrefix(value, "http://"); ok {
		name, l.plain = after, true
	} else if after, ok := strings.CutPrefix(value, "https://"); ok {
		name = after
	}
	l.host, l.path, _ = strings.Cut(strings.TrimSuffix(name, "/"), "/")
	if name == value {
		l.plain = isLoopback(l.host)
	}
	if !domainPattern.MatchString(l.host) {
		return location{}, fmt.Errorf("%q is not [http://]HOST[:PORT][/PATH], oci:DIRECTORY or docker-archive:FILE", value)
	}
	if l.path != "" && rest != "" {
		l.path += "/"
	}
	l.path += rest
	if l.path != "" && !pathPattern.MatchString(l.path) {
		return location{}, fmt.Errorf("%q: %q is not a repository name", value, l.path)
	}
	return l, nil
}

func isLoopback(hostport string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return ip != nil && ip.IsLoopback()
}
