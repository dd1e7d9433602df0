package certificate

import (
	"slices"
	"strings"
	"testing"
)

func TestFourNames(t *testing.T) {
	w := newWorld(t)
	w.rightDNS()
	done := w.settle()
	t.Log(strings.Join(done, ", "))
	w.good()
	if n := w.proxy.count(); n != 4 {
		t.Errorf("%d orders for four names", n)
	}
	if again := w.settle(); len(again) != 0 {
		t.Errorf("a second look does %v", again)
	}
	if i := slices.Index(done, "copy example.org"); i < 0 {
		t.Error("Prosody got nothing")
	}
}
