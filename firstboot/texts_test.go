package firstboot

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/prose-im/prose-image/firstboot/status"
)

var update = flag.Bool("update", false, "rewrite goldens")

// What owners read in each situation: all that is not done, for people to judge.
func TestTexts(t *testing.T) {
	var b strings.Builder
	for _, c := range situations() {
		w := settled()
		c.change(w)
		s := status.Status{Domain: w.state.Domain, At: t0, Items: items(seen{w, next(w, nil), c.errs, c.records})}
		s.State = overall(w, s.Items)
		var open []status.Item
		for _, it := range s.Items {
			if it.Progress != status.Done {
				open = append(open, it)
			}
			// Whoever waits is told for what, and what fails why, or what to do.
			if it.Progress == status.Owner && it.Do == "" || it.Progress == status.Failed && it.Why == "" && it.Do == "" {
				t.Errorf("%s: nobody knows what to do: %+v", c.name, it)
			}
			if it.Progress == status.Failed && it.Again.IsZero() {
				t.Errorf("%s: nobody knows whether the machine tries again: %+v", c.name, it)
			}
		}
		s.Items = open
		fmt.Fprintf(&b, "=== %s\n%s", c.name, status.Text(s, status.Layout{Width: 80}))
	}
	const path = "testdata/texts.txt"
	if *update {
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if b.String() != string(want) {
		t.Errorf("%s is not what comes out now; -update rewrites it. Got:\n%s", path, b.String())
	}
}
