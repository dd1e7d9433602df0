package builder

import (
	"slices"
	"strings"
	"testing"
)

// What of a plan is an architecture's.
func TestPlanOfArchitecture(t *testing.T) {
	for _, c := range []struct {
		arch        string
		has, lacks  []string
		request     []string
		notRequests string
	}{
		{"amd64", []string{"console=ttyS0,115200", "boot loader"}, []string{"ttyAMA0"},
			[]string{"linux-image-cloud-amd64", "grub-efi-amd64-signed", "grub-pc-bin", "shim-signed"}, "arm64"},
		{"arm64", []string{"console=ttyAMA0,115200", "arch         arm64"}, []string{"ttyS0", "boot loader", "amd64"},
			[]string{"linux-image-cloud-arm64", "grub-efi-arm64-signed", "shim-signed"}, "amd64"},
	} {
		in := inputs(t)
		in.Recipe.Arch, in.Lock.Arch = c.arch, c.arch
		request := in.request()
		for _, name := range c.request {
			if !slices.Contains(request, name) {
				t.Errorf("%s asks for no %s", c.arch, name)
			}
		}
		if s := strings.Join(request, " "); strings.Contains(s, c.notRequests) || c.arch != "amd64" && strings.Contains(s, "grub-pc") {
			t.Errorf("%s asks for %s", c.arch, s)
		}
		p, err := NewPlan(in)
		if err != nil {
			t.Fatal(err)
		}
		text := p.Text()
		for _, want := range c.has {
			if !strings.Contains(text, want) {
				t.Errorf("the plan for %s has no %q", c.arch, want)
			}
		}
		for _, other := range c.lacks {
			if strings.Contains(text, other) {
				t.Errorf("the plan for %s has %q", c.arch, other)
			}
		}
		if got := in.images("").Platform; got != "linux/"+c.arch {
			t.Errorf("images are taken for %s", got)
		}
	}
}
