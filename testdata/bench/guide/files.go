package guide

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"embed"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/prose-im/prose-image/builder"
	"github.com/prose-im/prose-image/builder/disk"
	"github.com/prose-im/prose-image/builder/layer"
	"github.com/prose-im/prose-image/builder/tree"
	"github.com/prose-im/prose-image/overlays"
)

//go:embed files
var own embed.FS

// A file is one that the machine has beyond Debian's.
type file struct {
	path string
	mode uint16
	uid  uint32 // and gid
	link string
	dir  bool
	text []byte
}

func text(name string) []byte {
	b, err := own.ReadFile("files/" + name)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return b
}

// files are those of a machine, over Debian's in t.
func (c Config) files(t *tree.Tree, ids disk.IDs, lock *builder.Lock) ([]file, error) {
	uuid := ids.Filesystem.String()
	volume := fmt.Sprintf("%04X-%04X", ids.Volume>>16, ids.Volume&0xFFFF)
	compose, settings, err := pod()
	if err != nil {
		return nil, err
	}
	all := []file{
		{path: "etc/fstab", mode: 0o644, text: fmt.Appendf(nil, "UUID=%s / ext4 errors=remount-ro 0 1\nUUID=%s /boot/efi vfat umask=0077 0 1\n", uuid, volume)},
		{path: "boot/efi", mode: 0o755, dir: true},
		{path: "boot/prose/grub.cfg", mode: 0o644, text: []byte(menu(uuid))},
		// An empty one: with none at all systemd would go through every preset.
		{path: "etc/machine-id", mode: 0o444},
		{path: "etc/cloud/cloud.cfg.d/99-network.cfg", mode: 0o644, text: text("network.cfg")},
		// Not the guide's: it has people install an engine that has such a pool
		// of its own. Debian's has none, and the Pod's network would not be.
		{path: "etc/docker/daemon.json", mode: 0o644, text: text("daemon.json")},
	}
	if c.Kind == Guide {
		images, err := archive(c.Layout, lock)
		if err != nil {
			return nil, fmt.Errorf("writing the archive of the images: %w", err)
		}
		script := text("guide.sh")
		nginx := func(name string) []byte {
			return bytes.ReplaceAll(text(name), []byte("{certificates}"), []byte("/etc/letsencrypt/live"))
		}
		return append(all,
			file{path: "usr/local/sbin/guide", mode: 0o755, text: script},
			file{path: "opt/prose/images.tar", mode: 0o644, text: images},
			file{path: "opt/prose/compose.yaml", mode: 0o644, text: compose},
			file{path: "opt/prose/templates/prose.toml", mode: 0o644, text: settings},
			file{path: "opt/prose/templates/prose.service", mode: 0o644, text: text("prose.service")},
			file{path: "opt/prose/templates/nginx.conf", mode: 0o644, text: nginx("nginx.conf")},
			file{path: "opt/prose/templates/nginx-well-known.conf", mode: 0o644, text: nginx("nginx-well-known.conf")},
			file{path: "opt/prose/templates/host-meta", mode: 0o644, text: text("host-meta")},
			file{path: "opt/prose/templates/host-meta.json", mode: 0o644, text: text("host-meta.json")},
		), nil
	}

	fill := func(b []byte) []byte {
		b = bytes.ReplaceAll(b, []byte("{certificates}"), []byte("/etc/letsencrypt/live"))
		return bytes.ReplaceAll(b, []byte("{your_domain}"), []byte(c.Domain))
	}
	accounts := map[string]string{
		"etc/passwd": "prose:x:1001:1001:Prose,,,:/home/prose:/bin/bash\n",
		"etc/group":  "prose:x:1001:\n",
	}
	for p, line := range accounts {
		b, err := t.ReadFile(p)
		if err != nil {
			return nil, err
		}
		all = append(all, file{path: p, mode: 0o644, text: append(b, line...)})
	}
	for _, d := range []string{"var/lib/prose-pod-api", "var/lib/prose-pod-server", "var/lib/prosody", "etc/prose", "etc/prosody", "etc/prosody/certs", "etc/prosody/certs/" + c.Domain} {
		all = append(all, file{path: d, mode: 0o750, uid: 1001, dir: true})
	}
	for _, site := range []string{c.Domain, "prose." + c.Domain} {
		names := []string{site, "groups." + c.Domain}
		if site != c.Domain {
			names = []string{site, "admin." + site}
		}
		chain, key, err := selfSigned(names)
		if err != nil {
			return nil, err
		}
		all = append(all,
			file{path: "etc/letsencrypt/live/" + site + "/fullchain.pem", mode: 0o644, text: chain},
			file{path: "etc/letsencrypt/live/" + site + "/privkey.pem", mode: 0o600, text: key})
		if site == c.Domain {
			all = append(all,
				file{path: "etc/prosody/certs/" + site + "/fullchain.pem", mode: 0o644, uid: 1001, text: chain},
				file{path: "etc/prosody/certs/" + site + "/privkey.pem", mode: 0o600, uid: 1001, text: key})
		}
	}
	unit := bytes.ReplaceAll(text("prose.service"), []byte("User=prose\n"), nil)
	return append(all,
		file{path: "var/lib/prose-pod-api/database.sqlite", mode: 0o640, uid: 1001},
		file{path: "etc/prose/prose.env", mode: 0o600, uid: 1001},
		file{path: "etc/prose/prose.toml", mode: 0o644, uid: 1001, text: fill(settings)},
		file{path: "etc/prose/compose.yaml", mode: 0o644, uid: 1001, text: compose},
		file{path: "etc/systemd/system/prose.service", mode: 0o644, text: unit},
		file{path: "etc/systemd/system/multi-user.target.wants/prose.service", link: "/etc/systemd/system/prose.service"},
		file{path: "etc/nginx/sites-enabled/prose", mode: 0o644, text: fill(text("nginx.conf"))},
		file{path: "etc/nginx/sites-enabled/well-known", mode: 0o644, text: fill(text("nginx-well-known.conf"))},
		file{path: "var/www/default/.well-known/host-meta", mode: 0o644, text: fill(text("host-meta"))},
	), nil
}

// pod is upstream's compose file and template, as ours has them without the
// override; the environment lies where the guide has it.
func pod() (compose, settings []byte, err error) {
	bundle, err := overlays.Pod(overlays.Bundles()[0])
	if err != nil {
		return nil, nil, err
	}
	for _, f := range bundle {
		switch path.Base(f.Path) {
		case "compose.yaml":
			compose = f.Content
		case "prose.toml.tmpl":
			settings = f.Content
		}
	}
	if compose == nil || settings == nil {
		return nil, nil, errors.New("the bundle has no compose.yaml or no prose.toml.tmpl")
	}
	for _, env := range []string{"server.env", "api.env"} {
		compose = bytes.ReplaceAll(compose, []byte("/usr/lib/prose/pod/"+env), []byte("/etc/prose/prose.env"))
	}
	return compose, settings, nil
}

// archive is what "docker save" would have written of the images.
func archive(dir string, lock *builder.Lock) ([]byte, error) {
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		return nil, err
	}
	images := map[name.Reference]v1.Image{}
	for _, i := range lock.Images {
		tag, err := name.NewTag(i.Name)
		if err != nil {
			return nil, err
		}
		digest, err := v1.NewHash(i.Digest)
		if err != nil {
			return nil, err
		}
		manifest, err := v1.NewHash(i.Manifest)
		if err != nil {
			return nil, err
		}
		one, err := index.ImageIndex(digest)
		if err != nil {
			return nil, err
		}
		if images[tag], err = one.Image(manifest); err != nil {
			return nil, err
		}
	}
	var b bytes.Buffer
	err = tarball.MultiRefWrite(images, &b)
	return b.Bytes(), err
}

// selfSigned is a certificate that nobody trusts, and its key, as PEM.
func selfSigned(names []string) (chain, key []byte, err error) {
	secret, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	now := time.Now()
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: names[0]}, DNSNames: names,
		NotBefore: now.AddDate(0, 0, -1), NotAfter: now.AddDate(1, 0, 0)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, secret.Public(), secret)
	if err != nil {
		return nil, nil, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(secret)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), nil
}

// write writes files and the directories above them that are not in the list.
// A directory that Debian has, too, is root's there with the same mode.
func write(w *layer.Writer, list []file, epoch time.Time) error {
	all := map[string]file{}
	for _, f := range list {
		all[f.path] = f
		for dir := path.Dir(f.path); dir != "."; dir = path.Dir(dir) {
			if _, ok := all[dir]; !ok {
				all[dir] = file{path: dir, mode: 0o755, dir: true}
			}
		}
	}
	for _, f := range list {
		all[f.path] = f
	}
	var paths []string
	for p := range all {
		paths = append(paths, p)
	}
	slices.SortFunc(paths, func(a, b string) int { return slices.Compare(strings.Split(a, "/"), strings.Split(b, "/")) })
	for _, p := range paths {
		f := all[p]
		e := layer.Entry{Path: p, Mode: f.mode, UID: f.uid, GID: f.uid, ModTime: epoch, Size: int64(len(f.text))}
		var content io.Reader = bytes.NewReader(f.text)
		switch {
		case f.dir:
			e.Type, content = layer.Dir, nil
		case f.link != "":
			e.Type, e.Mode, e.Link, content = layer.Symlink, 0o777, f.link, nil
		}
		if err := w.Write(e, content); err != nil {
			return err
		}
	}
	return nil
}
