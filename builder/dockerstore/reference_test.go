package dockerstore

import (
	"strings"
	"testing"
)

var someDigest = digestOf([]byte("some"))

func TestParseReference(t *testing.T) {
	hex := strings.TrimPrefix(someDigest, digestPrefix)
	for _, c := range []struct{ in, name, familiar, tag, digest string }{
		{"nginx", "docker.io/library/nginx", "nginx", "latest", ""},
		{"nginx:1.27", "docker.io/library/nginx", "nginx", "1.27", ""},
		{"docker.io/nginx:1", "docker.io/library/nginx", "nginx", "1", ""},
		{"index.docker.io/library/nginx:1", "docker.io/library/nginx", "nginx", "1", ""},
		{"proseim/prose-pod-server:latest", "docker.io/proseim/prose-pod-server", "proseim/prose-pod-server", "latest", ""},
		{"docker.io/library/a/b", "docker.io/library/a/b", "library/a/b", "latest", ""},
		{"example.test/app:1.0", "example.test/app", "example.test/app", "1.0", ""},
		{"localhost/app", "localhost/app", "localhost/app", "latest", ""},
		{"127.0.0.1:5000/a/b-c__d.e:T_1.x", "127.0.0.1:5000/a/b-c__d.e", "127.0.0.1:5000/a/b-c__d.e", "T_1.x", ""},
		{"[::1]:5000/a", "[::1]:5000/a", "[::1]:5000/a", "latest", ""},
		{"UPPER/a", "UPPER/a", "UPPER/a", "latest", ""},
		{"a@" + someDigest, "docker.io/library/a", "a", "", someDigest},
		{"p/a:2@" + someDigest, "docker.io/p/a", "p/a", "2", someDigest},
	} {
		r, err := ParseReference(c.in)
		if err != nil {
			t.Errorf("%s: %v", c.in, err)
			continue
		}
		if r.Name() != c.name || r.Familiar() != c.familiar || r.Tag != c.tag || r.Digest != c.digest {
			t.Errorf("%s: name %s, familiar %s, tag %q, digest %q", c.in, r.Name(), r.Familiar(), r.Tag, r.Digest)
		}
	}
	for _, in := range []string{
		"", ":1", "a:", "A", "a/B", "a//b", "/a", "a/", "a b", "a:b c", "a:-x", "a@", "a@sha256:12", "a@sha512:" + hex, "a@" + strings.ToUpper(someDigest),
		"@" + someDigest, hex, "a:" + strings.Repeat("x", 129), strings.Repeat("x", 256), "a___b", "-a", "ex_ample.test/a", "../a", "a/../b",
	} {
		if r, err := ParseReference(in); err == nil {
			t.Errorf("%q was taken as %+v", in, r)
		}
	}
}

func FuzzParseReference(f *testing.F) {
	for _, s := range []string{"nginx", "a.b:5/c:d@" + someDigest, "localhost/x", "library/a/b", "docker.io/library/library/x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseReference(s)
		if err != nil {
			return
		}
		again, err := ParseReference(r.String())
		if err != nil || again != r {
			t.Errorf("%q is %+v, whose form %q is %+v, %v", s, r, r, again, err)
		}
	})
}

func TestMirrorFind(t *testing.T) {
	m := Mirror{
		"docker.io":                          "cache.test:5000/hub",
		"docker.io/proseim":                  "127.0.0.1:5000/proseim",
		"proseim/prose-pod-server":           "http://plain.test/s",
		"nginx":                              "oci:/srv/nginx",
		"docker.io/library/redis/":           "docker-archive:redis.tar",
		"registry.test":                      "https://localhost",
		"index.docker.io/fifth/x":            "https://127.0.0.1:1/x",
		"other.test/a":                       "[::1]:80",
		"docker.io/proseim/prose-pod-server": "http://plain.test/s",
	}
	if err := m.Check(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		in    string
		want  location
		exact bool
	}{
		{"alpine:3", location{atRegistry, "cache.test:5000", false, "hub/library/alpine"}, false},
		{"proseim/prose-pod-api", location{atRegistry, "127.0.0.1:5000", true, "proseim/prose-pod-api"}, false},
		{"proseimx/y", location{atRegistry, "cache.test:5000", false, "hub/proseimx/y"}, false},
		{"proseim/prose-pod-server:1", location{atRegistry, "plain.test", true, "s"}, true},
		{"nginx:1", location{atLayout, "", false, "/srv/nginx"}, true},
		{"redis", location{atArchive, "", false, "redis.tar"}, true},
		{"registry.test/a/b", location{atRegistry, "localhost", false, "a/b"}, false},
		{"fifth/x", location{atRegistry, "127.0.0.1:1", false, "x"}, true},
		{"other.test/a/b/c", location{atRegistry, "[::1]:80", true, "b/c"}, false},
		{"other.test/ab", location{atRegistry, "other.test", false, "ab"}, false},
		{"127.0.0.1:9/a", location{atRegistry, "127.0.0.1:9", true, "a"}, false},
	} {
		r, err := ParseReference(c.in)
		if err != nil {
			t.Fatal(err)
		}
		got, exact, err := m.find(r)
		if err != nil || got != c.want || exact != c.exact {
			t.Errorf("%s is at %+v, exactly %v, %v; want %+v", c.in, got, exact, err, c.want)
		}
	}
}

func TestMirrorCheck(t *testing.T) {
	for key, value := range map[string]string{
		"docker.io/UPPER": "a.test", "a b": "a.test", "": "a.test", "a": "", "a1": "ftp://a.test", "a2": "oci:", "a3": "docker-archive:",
		"a4": "a.test/UP", "a5": "a_b", "a6": "http://", "a7": "a.test//b", "a8": "/abs/path",
	} {
		if err := (Mirror{key: value}).Check(); err == nil {
			t.Errorf("mirror %q = %q was taken", key, value)
		}
	}
}

func TestCheckEngine(t *testing.T) {
	for v, ok := range map[string]bool{
		"20.10.24+dfsg1-1+b3": true, "26.1.5+dfsg1-9+b9": true, "5:28.5.2-1~debian.13~trixie": true, "v27.0": true, "28": true, "20.10": true,
		"19.03.15": false, "20.9.1": false, "20": false, "5:29.0.0-1~debian.13~trixie": false, "29.0.0-rc.1": false, "": false, "x": false, "x:26.1": false, "26.x": false, "-26.1": false,
	} {
		if err := CheckEngine(v); (err == nil) != ok {
			t.Errorf("%q: %v", v, err)
		}
	}
}
