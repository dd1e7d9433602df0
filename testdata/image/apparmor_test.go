package image

import (
	"regexp"
	"strings"
	"testing"

	"github.com/prose-im/prose-image/overlays"
)

// profileHead begins a profile, apparmor.d(5).
var profileHead = regexp.MustCompile(`(?m)^profile\s.*\{\s*$`)

// What is not loaded confines nothing: every profile is unconfined or in
// complain mode.
func TestSilencedProfilesConfineNothing(t *testing.T) {
	fs := root(t)
	for _, p := range overlays.Silenced() {
		text, err := fs.cat("/" + p)
		if err != nil {
			t.Errorf("%s: %v", p, err)
			continue
		}
		heads := profileHead.FindAllString(text, -1)
		if len(heads) == 0 {
			t.Errorf("%s has no profile:\n%s", p, text)
		}
		for _, h := range heads {
			_, flags, _ := strings.Cut(h, "flags=(")
			flags, _, _ = strings.Cut(flags, ")")
			if !strings.Contains(flags, "unconfined") && !strings.Contains(flags, "complain") {
				t.Errorf("%s confines: %s", p, h)
			}
		}
	}
}
