package builder

import (
	"bytes"
	"context"
	"crypto/md5"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/prose-im/prose-image/builder/layer"
)

// agent is prose-firstboot, as an installed Debian package: dpkg knows its
// files, so the owner sees its version and can replace it.
var agent = kind{
	name:     "agent",
	revision: 1,
	plan: func(in *Inputs, p *Plan, _ string) Layer {
		return Layer{Kind: "agent", Reads: []string{dpkgStatus}, Inputs: []Input{
			content(agentName, in.Agent.Binary),
			text("version", in.Agent.Version),
			text("arch", in.Lock.Arch),
			epoch(p),
		}}
	},
	make: func(ctx context.Context, m *making) error {
		status, err := m.below.ReadFile(dpkgStatus)
		if err != nil {
			return err
		}
		w, err := m.create(nil)
		if err != nil {
			return err
		}
		for _, e := range agentFiles(status, m.in.Agent, m.in.Lock.Arch) {
			e.entry.ModTime = m.plan.Epoch
			e.entry.Size = int64(len(e.content))
			if err := w.Write(e.entry, bytes.NewReader(e.content)); err != nil {
				return err
			}
		}
		return nil
	},
}

const (
	agentName  = "prose-firstboot"
	dpkgStatus = "var/lib/dpkg/status"
)

// An Agent is the first-boot agent that goes into the image.
type Agent struct {
	Binary  []byte
	Version string // Debian version
}

type agentFile struct {
	entry   layer.Entry
	content []byte
}

// agentFiles is what dpkg would have left after installing the agent; see
// deb-control(5) and dpkg's info database.
func agentFiles(status []byte, a Agent, arch string) []agentFile {
	doc := "usr/share/doc/" + agentName
	own := []agentFile{
		{layer.Entry{Path: "usr/bin/" + agentName, Mode: 0o755}, a.Binary},
		{layer.Entry{Path: doc, Type: layer.Dir, Mode: 0o755}, nil},
		{layer.Entry{Path: doc + "/copyright", Mode: 0o644}, []byte(agentCopyright)},
	}
	var list, sums strings.Builder
	list.WriteString("/.\n")
	var listed []string
	for _, f := range own {
		var dirs []string
		for d := path.Dir(f.entry.Path); d != "."; d = path.Dir(d) {
			dirs = append(dirs, d)
		}
		slices.Reverse(dirs)
		for _, p := range append(dirs, f.entry.Path) {
			if !slices.Contains(listed, p) {
				listed = append(listed, p)
				fmt.Fprintf(&list, "/%s\n", p)
			}
		}
		if f.entry.Type == layer.File {
			fmt.Fprintf(&sums, "%x  %s\n", md5.Sum(f.content), f.entry.Path)
		}
	}
	stanza := fmt.Sprintf(`Package: %s
Status: install ok installed
Priority: optional
Section: net
Maintainer: Prose <https://prose.org>
Installed-Size: %d
Architecture: %s
Version: %s
Description: first-boot agent of Prose appliance images
 Reads the domain from user-data, gets certificates, starts the Pod and keeps
 it healthy.

`, agentName, (len(a.Binary)+1023)/1024, arch, a.Version)
	if len(status) > 0 && !bytes.HasSuffix(status, []byte("\n\n")) {
		status = append(bytes.TrimRight(status, "\n"), "\n\n"...)
	}
	info := "var/lib/dpkg/info/" + agentName
	return append(own,
		agentFile{layer.Entry{Path: info + ".list", Mode: 0o644}, []byte(list.String())},
		agentFile{layer.Entry{Path: info + ".md5sums", Mode: 0o644}, []byte(sums.String())},
		agentFile{layer.Entry{Path: dpkgStatus, Mode: 0o644}, append(status, stanza...)},
	)
}

const agentCopyright = `Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: prose-image

Files: *
License: Apache-2.0
 On Debian systems the text of this license is in
 /usr/share/common-licenses/Apache-2.0.
`
