package durability

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"

	"github.com/prose-im/prose-image/firstboot/site"
)

// Where the agent keeps what must survive.
const (
	stateDir   = "/var/lib/prose-firstboot"
	acmeDir    = stateDir + "/acme"
	liveDir    = "/etc/letsencrypt/live"
	archiveDir = "/etc/letsencrypt/archive"
	prosodyDir = "/etc/prosody/certs"
)

// kept are the directories that hold all of it.
var kept = []string{stateDir, "/etc/letsencrypt", "/etc/prosody", "/etc/prose"}

// A record is what a file in names must say, see firstboot/certificate.
type record struct {
	Host  string
	Order *struct {
		URL, Key string
	}
	Issued *struct{ Serial string }
	Tries  []time.Time
}

// A look is what the agent finds in a machine after a power cut.
type look struct {
	dir      string // with the files of the machine
	domain   string
	problems []error
	seen     map[string]bool   // kinds of files that were there
	records  map[string]record // by host
}

func (l *look) wrong(format string, args ...any) {
	l.problems = append(l.problems, fmt.Errorf(format, args...))
}

// read reads a file of the machine, if it is there.
func (l *look) read(path string) ([]byte, bool) {
	b, err := os.ReadFile(filepath.Join(l.dir, path))
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			l.wrong("%w", err)
		}
		return nil, false
	}
	l.seen[path] = true
	return b, true
}

// names are the entries of a directory that are no temporary ones.
func (l *look) names(path string) []string {
	entries, err := os.ReadDir(filepath.Join(l.dir, path))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		l.wrong("%w", err)
	}
	var names []string
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") {
			names = append(names, e.Name())
		}
	}
	return names
}

// lookAt looks at the files in dir. Every file that is there is whole, and
// what one refers to is there.
func lookAt(dir, domain string) *look {
	l := &look{dir: dir, domain: domain, seen: map[string]bool{}, records: map[string]record{}}
	l.setAside()
	l.accounts()
	l.state()
	l.config()
	l.pairs()
	l.prosody()
	l.site()
	for _, name := range l.names(acmeDir + "/names") {
		l.record(name)
	}
	return l
}

// setAside looks for files that a run of the agent found broken.
func (l *look) setAside() {
	_ = filepath.WalkDir(filepath.Join(l.dir, stateDir), func(path string, _ fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".bad") {
			l.wrong("%s was found broken", strings.TrimPrefix(path, l.dir))
		}
		return nil
	})
}

// accounts looks at those with the authority: who loses a key has to make
// another account.
func (l *look) accounts() {
	_ = filepath.WalkDir(filepath.Join(l.dir, acmeDir), func(path string, e fs.DirEntry, err error) error {
		name := strings.TrimPrefix(path, l.dir)
		switch {
		case err != nil || strings.HasPrefix(e.Name(), "."):
		case e.Name() == "account.key":
			if b, ok := l.read(name); ok {
				if block, _ := pem.Decode(b); block == nil {
					l.wrong("%s: %d bytes are no PEM", name, len(b))
				}
			}
		case e.Name() == "account.json":
			if b, ok := l.read(name); ok && !json.Valid(b) {
				l.wrong("%s: %d bytes are no JSON", name, len(b))
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(path), "account.key")); err != nil {
				l.wrong("%s has no key: %w", name, err)
			}
			l.seen["account"] = true
		}
		return nil
	})
}

func (l *look) state() {
	path := stateDir + "/state.json"
	b, ok := l.read(path)
	if !ok {
		return
	}
	var s struct {
		Schema int
		Domain string
		Ready  time.Time
	}
	if err := json.Unmarshal(b, &s); err != nil {
		l.wrong("%s: %w", path, err)
		return
	}
	if s.Schema != 1 || s.Domain != "" && s.Domain != l.domain {
		l.wrong("%s: schema %d, domain %q", path, s.Schema, s.Domain)
	}
	if s.Ready.IsZero() {
		return
	}
	l.seen["ready"] = true
	for _, name := range site.Names(l.domain) {
		if leaf := l.pair(liveDir+"/"+name, name); leaf == nil || bytes.Equal(leaf.RawIssuer, leaf.RawSubject) {
			l.wrong("%s: ready, and %s has no certificate of the authority", path, name)
		}
	}
}

// config looks at what the settings were made into.
func (l *look) config() {
	if b, ok := l.read("/etc/prose/prose.toml"); ok {
		var v map[string]any
		if err := toml.Unmarshal(b, &v); err != nil || len(v) == 0 {
			l.wrong("/etc/prose/prose.toml: %d keys, %w", len(v), err)
		}
	}
	xml, js := site.HostMeta(l.domain)
	for name, want := range map[string][]byte{"host-meta": xml, "host-meta.json": js} {
		path := stateDir + "/www/well-known/" + name
		if b, ok := l.read(path); ok && !bytes.Equal(b, want) {
			l.wrong("%s: %q", path, b)
		}
	}
	if b, ok := l.read(stateDir + "/link.json"); ok && !json.Valid(b) {
		l.wrong("link.json: %q is no JSON", b)
	}
	if b, ok := l.read(stateDir + "/door.key"); ok && len(b) < 32 {
		l.wrong("door.key has %d bytes", len(b))
	}
}

// pair reads a directory with a chain and its key.
func (l *look) pair(path, host string) *x509.Certificate {
	dir := filepath.Join(l.dir, path)
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "fullchain.pem"), filepath.Join(dir, "privkey.pem"))
	if err != nil {
		l.wrong("%s: %w", path, err)
		return nil
	}
	if err := pair.Leaf.VerifyHostname(host); err != nil {
		l.wrong("%s: %w", path, err)
		return nil
	}
	l.seen[path] = true
	return pair.Leaf
}

// pairs looks at NGINX's: all that are named are whole.
func (l *look) pairs() {
	for _, host := range l.names(liveDir) {
		if leaf := l.pair(liveDir+"/"+host, host); leaf != nil && !bytes.Equal(leaf.RawIssuer, leaf.RawSubject) {
			l.seen["signed "+host] = true
		}
	}
	for _, host := range l.names(archiveDir) {
		for _, serial := range l.names(archiveDir + "/" + host) {
			if leaf := l.pair(archiveDir+"/"+host+"/"+serial, host); leaf != nil && leaf.SerialNumber.Text(16) != serial {
				l.wrong("%s/%s/%s holds %x", archiveDir, host, serial, leaf.SerialNumber)
			}
		}
	}
}

// prosody looks at Prosody's. Chain and key are two renames apart there, so
// that at worst the next run of the agent makes a pair of them again: what must
// hold is that each is whole.
func (l *look) prosody() {
	for _, host := range l.names(prosodyDir) {
		for _, name := range l.names(prosodyDir + "/" + host) {
			path := prosodyDir + "/" + host + "/" + name
			b, ok := l.read(path)
			if !ok {
				continue
			}
			blocks := 0
			for rest := b; len(rest) > 0; {
				var block *pem.Block
				if block, rest = pem.Decode(rest); block == nil {
					l.wrong("%s: %d bytes after %d blocks are no PEM", path, len(rest), blocks)
					break
				}
				blocks++
				var err error
				if block.Type == "CERTIFICATE" {
					_, err = x509.ParseCertificate(block.Bytes)
				} else {
					_, err = x509.ParsePKCS8PrivateKey(block.Bytes)
				}
				if err != nil {
					l.wrong("%s: %w", path, err)
				}
			}
			if blocks == 0 {
				l.wrong("%s is empty", path)
			}
		}
	}
}

var certificateLine = regexp.MustCompile(`(?m)^\s*ssl_certificate(_key)? (\S+);$`)

// site looks at NGINX's configuration: it is one that we render, and every file
// that it names is there.
func (l *look) site() {
	path := stateDir + "/nginx/prose.conf"
	b, ok := l.read(path)
	if !ok {
		return
	}
	names := site.Names(l.domain)
	found := certificateLine.FindAllSubmatch(b, -1)
	if len(found) != 2*len(names) {
		l.wrong("%s names %d certificates and keys", path, len(found))
		return
	}
	pairs := map[string]site.Pair{}
	for i, name := range names {
		pairs[name] = site.Pair{Chain: string(found[2*i][2]), Key: string(found[2*i+1][2])}
		for _, file := range []string{pairs[name].Chain, pairs[name].Key} {
			if _, err := os.Stat(filepath.Join(l.dir, file)); err != nil {
				l.wrong("%s: %w", path, err)
			}
		}
	}
	if want, err := site.Render(site.Config{Domain: l.domain, Certificates: pairs}); err != nil || !bytes.Equal(b, want) {
		l.wrong("%s is not what the agent renders: %d bytes", path, len(b))
	}
}

func (l *look) record(name string) {
	path := acmeDir + "/names/" + name
	b, ok := l.read(path)
	if !ok {
		return
	}
	var r record
	if err := json.Unmarshal(b, &r); err != nil {
		l.wrong("%s: %w", path, err)
		return
	}
	if r.Host+".json" != name {
		l.wrong("%s is about %q", path, r.Host)
	}
	l.records[r.Host] = r
	if r.Order != nil {
		// One without an address is about to be asked for.
		l.seen["order"] = l.seen["order"] || r.Order.URL != ""
		if block, _ := pem.Decode([]byte(r.Order.Key)); block == nil {
			l.wrong("%s: the order %q has no key", path, r.Order.URL)
		}
	}
	if r.Issued != nil {
		if leaf := l.pair(archiveDir+"/"+r.Host+"/"+r.Issued.Serial, r.Host); leaf == nil {
			l.wrong("%s: the certificate %s that it speaks of is not there", path, r.Issued.Serial)
		}
	}
}

// promised looks whether what the authority was asked to finalize is known:
// who forgets an order makes a second one.
func (l *look) promised(finalized map[string]int) {
	for host, n := range finalized {
		r, ok := l.records[host]
		switch {
		case !ok:
			l.wrong("%s: %d orders were finalized, and there is no record", host, n)
		case len(r.Tries) < n:
			l.wrong("%s: %d orders were finalized, and the record knows of %d", host, n, len(r.Tries))
		case (r.Order == nil || r.Order.URL == "") && r.Issued == nil:
			l.wrong("%s: %d orders were finalized, and the record has neither an order nor a certificate", host, n)
		}
	}
}
