package ext4

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/prose-im/prose-image/builder/layer"
)

// Every byte that differs between two file systems of one shape belongs to the
// file that differs.
func TestLocate(t *testing.T) {
	build := func(changed string) *builder {
		b := newBuilder(t)
		b.dir("d")
		for i := range 40 {
			name := fmt.Sprintf("d/file%02d", i)
			content := strings.Repeat(name, 3000)
			if name == changed {
				content = strings.Repeat("other67", 3000)
			}
			b.file(name, content)
		}
		mode := uint16(0o644)
		if changed == "mode" {
			mode = 0o600
		}
		b.add(layer.Entry{Path: "mode", Mode: mode}, "same")
		return b
	}
	o := Options{UUID: [16]byte{1}, Label: "root", Time: time.Unix(1700000000, 0)}
	read := func(b *builder) ([]byte, Layout) {
		image, l := write(t, b.tree(), o)
		data, err := os.ReadFile(image)
		if err != nil {
			t.Fatal(err)
		}
		return data, l
	}
	was, l := read(build(""))
	for _, changed := range []string{"d/file00", "d/file17", "d/file39", "mode"} {
		is, _ := read(build(changed))
		at := 0
		for at < len(is) && is[at] == was[at] {
			at++
		}
		if at == len(is) {
			t.Fatalf("%s: nothing differs", changed)
		}
		got, err := Locate(t.Context(), l, int64(at))
		if err != nil || got != changed {
			t.Errorf("byte %d is of %q (%v), not of %s", at, got, err, changed)
		}
	}
	journal := bytes.Index(was, []byte{0xc0, 0x3b, 0x39, 0x98})
	for _, at := range []int{1024, journal} {
		if got, err := Locate(t.Context(), l, int64(at)); err != nil || got != "" {
			t.Errorf("byte %d is of %q (%v)", at, got, err)
		}
	}
}
