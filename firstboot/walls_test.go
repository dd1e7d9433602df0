package firstboot

import (
	"testing"

	"github.com/prose-im/prose-image/firstboot/settings"
)

func TestWallsOfSettings(t *testing.T) {
	const first = "# Written by prose-firstboot, from the settings federation and allow.ssh.\n"
	for _, c := range []struct {
		federation bool
		ssh        []string
		want       string
	}{
		{false, nil, first},
		{true, nil, first + "add element inet prose federation { 5269 }\n"},
		{false, []string{"192.0.2.0/24", "198.51.100.7", "2001:db8::/32", "2001:db8::7", "::ffff:203.0.113.9"}, first + `add element inet prose ssh_listed { 22 }
add element inet prose ssh4 { 192.0.2.0/24 }
add element inet prose ssh4 { 198.51.100.7/32 }
add element inet prose ssh6 { 2001:db8::/32 }
add element inet prose ssh6 { 2001:db8::7/128 }
add element inet prose ssh4 { 203.0.113.9/32 }
`},
	} {
		s := settings.Defaults()
		s.Federation, s.Allow.SSH = c.federation, c.ssh
		if got, err := walls(s); err != nil || string(got) != c.want {
			t.Errorf("%v: %v\n%s", c.ssh, err, got)
		}
	}
	for _, bad := range []string{"", "everybody", "192.0.2.0/33", "192.0.2.1; flush ruleset", "192.0.2.0/24 }\nadd element inet prose ssh4 { 0.0.0.0/0"} {
		s := settings.Defaults()
		s.Allow.SSH = []string{bad}
		if got, err := walls(s); err == nil {
			t.Errorf("%q is taken: %s", bad, got)
		}
	}
}
