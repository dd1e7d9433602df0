package ext4

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/prose-im/prose-image/builder/layer"
)

// debugfs answers requests on an image, one text for each.
func debugfs(t testing.TB, image string, requests []string) []string {
	t.Helper()
	if len(requests) == 0 {
		return nil
	}
	cmd := exec.Command("debugfs", "-f", "-", image)
	cmd.Stdin = strings.NewReader(strings.Join(requests, "\n") + "\n")
	cmd.Env = append(os.Environ(), "TZ=UTC", "DEBUGFS_PAGER=cat")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("debugfs: %v\n%s", err, stderr.String())
	}
	for line := range strings.Lines(stderr.String()) {
		if !strings.HasPrefix(line, "debugfs 1.") {
			t.Fatalf("debugfs: %s", stderr.String())
		}
	}
	parts := strings.Split(string(out), "debugfs: ")[1:]
	if len(parts) != len(requests) {
		t.Fatalf("debugfs gave %d answers to %d requests", len(parts), len(requests))
	}
	for i, p := range parts {
		_, parts[i], _ = strings.Cut(p, "\n") // the request itself
	}
	return parts
}

var (
	statHead   = regexp.MustCompile(`Type: (.+?) +Mode: +(\d+) `)
	statUser   = regexp.MustCompile(`User: +(-?\d+) +Group: +(-?\d+) .*Size: (\d+)`)
	statLinks  = regexp.MustCompile(`Links: (\d+)`)
	statTime   = regexp.MustCompile(`(?m)^ mtime: 0x([0-9a-f]{8}):([0-9a-f]{8})`)
	statDevice = regexp.MustCompile(`(?m)evice major/minor number: (\d+):(\d+) `)
	statTarget = regexp.MustCompile(`(?m)^Fast link dest: "(.*)"$`)
	listLine   = regexp.MustCompile(`(?m)^/(\d+)/(\d+)/(-?\d+)/(-?\d+)/(.+)/(\d*)/$`)
)

// seeDebugfs looks at an image with debugfs: at plain names only.
func seeDebugfs(t testing.TB, image string) map[string]seen {
	t.Helper()
	all := map[string]seen{}
	inodes := map[string]string{".": "<2>"} // by path
	paths := []string{"."}
	for level := []string{"."}; len(level) > 0; {
		var requests, next []string
		for _, p := range level {
			requests = append(requests, "ls -p "+inodes[p])
		}
		for i, answer := range debugfs(t, image, requests) {
			for _, m := range listLine.FindAllStringSubmatch(answer, -1) {
				if m[5] == "." || m[5] == ".." {
					continue
				}
				p := path.Join(level[i], m[5])
				inodes[p] = "<" + m[1] + ">"
				paths = append(paths, p)
				if strings.HasPrefix(m[2], "04") {
					next = append(next, p)
				}
			}
		}
		level = next
	}
	dir := t.TempDir()
	var requests []string
	for _, p := range paths {
		requests = append(requests, "stat "+inodes[p], "ea_list "+inodes[p])
	}
	var attributes, owners []string
	answers := debugfs(t, image, requests)
	requests = nil
	for i, p := range paths {
		if stat := answers[2*i]; strings.Contains(stat, "Type: regular") || strings.Contains(stat, "Type: symlink") && !strings.Contains(stat, "Fast link dest") {
			requests = append(requests, fmt.Sprintf("dump %s %s/%d", inodes[p], dir, i))
		}
	}
	debugfs(t, image, requests)
	for i, p := range paths {
		stat := answers[2*i]
		s := seen{Xattrs: map[string]string{}}
		number := func(m []string, i, base int) int64 {
			if m == nil {
				t.Fatalf("debugfs: stat of %s:\n%s", p, stat)
			}
			v, err := strconv.ParseInt(m[i], base, 64)
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
		head := statHead.FindStringSubmatch(stat)
		s.Mode = uint16(number(head, 2, 8))
		user := statUser.FindStringSubmatch(stat)
		s.UID, s.GID, s.Size = uint32(number(user, 1, 10)), uint32(number(user, 2, 10)), number(user, 3, 10)
		s.Links = int(number(statLinks.FindStringSubmatch(stat), 1, 10))
		when := statTime.FindStringSubmatch(stat)
		extra := number(when, 2, 16)
		s.Time = stampText(int64(int32(number(when, 1, 16)))+extra&3<<32, extra>>2)
		content, err := os.ReadFile(filepath.Join(dir, strconv.Itoa(i)))
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		switch kind := head[1]; kind {
		case "regular":
			s.Sum = digest(io.LimitReader(strings.NewReader(string(content)), maxSum))
		case "directory":
			s.Type, s.Size = layer.Dir, 0
		case "symlink":
			s.Type, s.Target = layer.Symlink, string(content)
			if m := statTarget.FindStringSubmatch(stat); m != nil {
				s.Target = m[1]
			}
		case "character special", "block special":
			s.Type = layer.Char
			if kind[0] == 'b' {
				s.Type = layer.Block
			}
			m := statDevice.FindStringSubmatch(stat)
			s.Major, s.Minor = uint32(number(m, 1, 10)), uint32(number(m, 2, 10))
		case "FIFO":
			s.Type = layer.Fifo
		default:
			t.Fatalf("debugfs: type %q", kind)
		}
		s.Same = inodes[p]
		_, list, _ := strings.Cut(answers[2*i+1], "Extended attributes:\n")
		for line := range strings.Lines(list) {
			name, _, ok := strings.Cut(strings.TrimSpace(line), " (")
			if !ok {
				t.Fatalf("debugfs: attributes of %s:\n%s", p, list)
			}
			attributes = append(attributes, fmt.Sprintf("ea_get -f %s/x%d %s %s", dir, len(attributes), inodes[p], name))
			owners = append(owners, p+"\x00"+name)
		}
		all[p] = s
	}
	if len(attributes) > 0 {
		debugfs(t, image, attributes)
	}
	for i, owner := range owners {
		p, name, _ := strings.Cut(owner, "\x00")
		value, err := os.ReadFile(fmt.Sprintf("%s/x%d", dir, i))
		if err != nil {
			t.Fatal(err)
		}
		all[p].Xattrs[name] = short(string(value))
	}
	link(all)
	return all
}

func TestDebugfs(t *testing.T) {
	from := generate(t, 7, 600, names{long: 255})
	image, _ := write(t, from, options)
	compare(t, "debugfs", seeTree(t, from), seeDebugfs(t, image), func(s *seen) {
		// It reads as 0 what the kernel reads as ^0: ids that an ACL does not store.
		delete(s.Xattrs, "system.posix_acl_default")
	})
}
