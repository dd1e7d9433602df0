package agenttest

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/prose-im/prose-image/firstboot/status"
)

const (
	thisID  = "0123456789abcdef0123456789abcdef\n"
	otherID = "fedcba9876543210fedcba9876543210\n"
)

func (b *faulty) anotherInstance(t *testing.T) {
	b.ready(t)
	b.agent("run") // what that leaves to be told
	files, containers := b.files(t), b.containers(t)
	b.instance("i-2", "")
	said := b.ready(t)
	if !strings.Contains(said, "remembering which machine this is") {
		t.Errorf("it did not take the new name: %s", said)
	}
	for _, p := range differences(files, b.files(t)) {
		if p != "/var/lib/prose-firstboot" && p != "/var/lib/prose-firstboot/state.json" && !strings.HasPrefix(p, "/var/lib/prose-firstboot/www/status") {
			t.Errorf("it has changed %s", p)
		}
	}
	if d := differences(containers, b.containers(t)); len(d) > 0 {
		t.Errorf("it has restarted %v", d)
	}
	b.ordered(t)
}

func (b *faulty) copiedDisk(t *testing.T) {
	account := func() string {
		found, _ := filepath.Glob(b.path("var/lib/prose-firstboot/acme/*/account.key"))
		if len(found) != 1 {
			return fmt.Sprint(len(found), " accounts")
		}
		text, err := os.ReadFile(found[0])
		if err != nil {
			t.Error(err)
		}
		return string(text)
	}
	door := func() string { text, _ := os.ReadFile(b.path("var/lib/prose-firstboot/door.key")); return string(text) }
	original, key := account(), door()
	before, err := b.serials()
	if err != nil {
		t.Fatal(err)
	}
	b.world.records(elsewhere, names...)
	b.forget()
	b.Write("/etc/machine-id", otherID)
	b.instance("i-3", "")
	copied := func(s status.Status, code int) bool {
		return code == 2 && item(s, "copy").Progress == status.Owner && strings.Contains(item(s, "copy").Why, elsewhere)
	}
	b.until(t, "it says that it is a copy", copied)
	if got := account(); got != "0 accounts" {
		t.Errorf("the copy has the original's account, or one of its own too early: %.20q", got)
	}
	if door() == key || door() == "" {
		t.Error("links of the original open the copy")
	}
	// Even when a certificate is due it does not fight.
	b.agent("renew")
	for range 3 {
		b.until(t, "it still waits", copied)
	}
	b.ordered(t)
	after, err := b.serials()
	if d := differences(before, after); err != nil || len(d) > 0 {
		t.Errorf("other certificates for %v, %v", d, err)
	}
	// It takes over.
	b.world.records(address, names...)
	b.forget()
	b.forgetLooks(t)
	b.until(t, "it has taken over", func(s status.Status, code int) bool { return code == 0 && item(s, "copy").Key == "" })
	b.want += len(names)
	b.ordered(t)
	if got := account(); got == original || !strings.Contains(got, "PRIVATE KEY") {
		t.Errorf("the copy goes on with the account of the original: %.20q", got)
	}
	b.serves(t)
}

func (b *faulty) copyForAnother(t *testing.T) {
	b.Write("/etc/machine-id", thisID)
	text, err := os.ReadFile(b.path("etc/prose-firstboot.d/10-owner.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	b.owner(strings.Replace(string(text), "domain: "+domain, "domain: other.example", 1))
	b.until(t, "the other domain is refused, with the way out", func(s status.Status, code int) bool {
		return code == 2 && s.Domain == domain && slices.Contains(item(s, "settings").Type, "sudo prose-firstboot reset")
	})
	before := b.files(t)
	if r := b.agent("reset", "--domain", "other.example"); r.code != 2 {
		t.Errorf("reset with another domain: exit code %d\n%s", r.code, r.out)
	}
	if d := differences(before, b.files(t)); len(d) > 0 {
		t.Errorf("a reset that was refused has changed %v", d)
	}
	b.asProse(t, "ln -s /etc/nginx /etc/prosody/planted; ln -s /etc/nginx /var/lib/prosody/planted")
	b.Write("/etc/prose-firstboot.d/50-configure.yaml", "company: Old\n")
	b.Write("/etc/nftables.d/prose.d/own.nft", "# The owner's.\n")
	if r := b.agent("reset", "--domain", domain); r.code != 0 {
		t.Fatalf("reset: exit code %d\n%s", r.code, r.out)
	}
	if all := b.containers(t); len(all) != 0 {
		t.Errorf("containers are left: %v", all)
	}
	left := b.Run(t, "sh", "-c", "find /etc/prosody /var/lib/prosody /var/lib/prose-pod-api /var/lib/prose-pod-server /etc/letsencrypt /etc/prose /etc/prose-firstboot.d -mindepth 1; find /var/lib/prose-firstboot /etc/nftables.d/prose.d -type f")
	if got := slices.Sorted(slices.Values(strings.Fields(left))); !slices.Equal(got, []string{"/etc/nftables.d/prose.d/own.nft", "/etc/prose-firstboot.d/10-owner.yaml", "/etc/prose/compose.yaml", "/etc/prose/prose.env"}) {
		t.Errorf("left: %v", got)
	}
	if _, err := os.Stat(b.path("etc/nginx/nginx.conf")); err != nil {
		t.Errorf("a planted link was followed: %v", err)
	}
	for _, n := range names {
		b.world.records(address, strings.Replace(n, domain, "other.example", 1))
	}
	b.until(t, "it is another domain's", func(s status.Status, code int) bool { return code == 0 && s.Domain == "other.example" && s.Locked })
	b.want += len(names)
	b.ordered(t)
}

// instance is what cloud-init leaves of the platform's metadata.
func (b *box) instance(id, public string) {
	b.t.Helper()
	text, err := json.Marshal(map[string]any{"v1": map[string]any{"instance_id": id}, "ds": map[string]any{"meta_data": map[string]any{"public-ipv4": public}}})
	if err != nil {
		b.t.Fatal(err)
	}
	b.Write("/run/cloud-init/instance-data.json", string(text))
}
