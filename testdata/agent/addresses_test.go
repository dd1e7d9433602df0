package agenttest

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/prose-im/prose-image/firstboot/status"
)

const (
	private = "10.9.9.2"        // the machine's own, behind translation
	six     = "2a01:4f8:1:2::7" // its address of version 6
	sixGate = "2a01:4f8:1:2::1" // the world's
)

// A machine whose public address is translated on the way, and that cannot reach
// it itself though the world can. Only the platform knows that address.
func TestTranslatedAddress(t *testing.T) {
	b := newBox(t)
	b.within("ip", "address", "flush", "dev", "eth0")
	b.within("ip", "address", "add", private+"/32", "dev", "eth0")
	b.linkUp()
	b.world.ip("route", "replace", private, "dev", "veth0", "src", outside)
	b.world.translate(t, address, private)
	b.instance("i-1", address)
	b.settings("")
	b.until(t, "it asks for the records of its public address", func(s status.Status, code int) bool {
		wanted := ""
		for _, r := range s.Records {
			wanted += r.Type + " " + r.Data + "\n"
		}
		return code == 3 && item(s, "pod").Progress == status.Done && strings.Contains(wanted, "A "+address) && !strings.Contains(wanted, private)
	})
	b.world.records(address, names...)
	b.forget()
	b.forgetLooks(t)
	b.until(t, "it says that only the proof is missing", func(s status.Status, code int) bool {
		return code != 0 && strings.Contains(fmt.Sprint(item(s, "certificates").Points), "cannot be reached from here")
	})
	if of, all := b.world.ordered(); all != 0 {
		t.Errorf("orders without a proof at once: %v", of)
	}
	// Ten minutes later.
	b.Run(t, "sh", "-c", `sed -i 's/"soft_since": "20[0-9][0-9]/"soft_since": "2001/' /var/lib/prose-firstboot/acme/names/*.json`)
	b.ready(t)
	if of, all := b.world.ordered(); all != len(names) {
		t.Errorf("orders: %v", of)
	}
	b.serves(t)
	// Afterwards what cannot be proven is no fault either.
	b.forget()
	b.ready(t)
	if t.Failed() {
		t.Logf("the agent's part of it:\n%s", b.log.String()[max(0, b.log.Len()-8000):])
	}
}

// A machine that the world reaches by version 6 only.
func TestSixOnly(t *testing.T) {
	b := newBox(t)
	b.within("ip", "address", "flush", "dev", "eth0")
	b.within("ip", "address", "add", private+"/32", "dev", "eth0")
	b.within("ip", "address", "add", six+"/64", "dev", "eth0", "nodad")
	b.linkUp()
	b.within("ip", "-6", "route", "replace", "default", "via", sixGate)
	b.world.ip("route", "replace", private, "dev", "veth0", "src", outside)
	b.world.ip("address", "add", sixGate+"/64", "dev", "veth0", "nodad")
	b.settings("")
	b.until(t, "it asks for AAAA records and no others", func(s status.Status, code int) bool {
		types := map[string]int{}
		for _, r := range s.Records {
			types[r.Type]++
		}
		return code == 3 && types["AAAA"] == 2 && types["A"] == 0
	})
	for _, n := range names {
		b.world.post("/add-aaaa", map[string]any{"host": n, "addresses": []string{six}})
	}
	b.forget()
	b.forgetLooks(t)
	b.ready(t)
	if of, all := b.world.ordered(); all != len(names) {
		t.Errorf("orders: %v", of)
	}
	visitor := b.world.visitorAt(six)
	for _, url := range []string{"https://prose." + domain + "/", "https://" + domain + "/.well-known/host-meta"} {
		if code, err := ask(visitor, http.MethodGet, url, ""); code != 200 {
			t.Errorf("%s by version 6: status %d, %v", url, code, err)
		}
	}
	if t.Failed() {
		t.Logf("the agent's part of it:\n%s", b.log.String()[max(0, b.log.Len()-8000):])
	}
}
