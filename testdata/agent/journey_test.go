package agenttest

import (
	"fmt"
	"net/http"
	"testing"
)

// A machine becomes a Pod.
func TestFirstBoot(t *testing.T) {
	b := newBox(t)
	b.world.records(address, names...)
	b.settings("")
	said := b.ready(t)
	t.Log(said)
	b.serves(t)
	if of, all := b.world.ordered(); all != len(names) || of[domain] != 1 {
		t.Errorf("orders: %v", of)
	}
}

// serves looks from outside whether the machine does all that it is for.
func (b *box) serves(t testing.TB) {
	t.Helper()
	visitor := b.world.visitor()
	for url, want := range map[string]int{
		"https://prose." + domain + "/":                     200,
		"https://" + domain + "/.well-known/host-meta":      200,
		"https://" + domain + "/.well-known/host-meta.json": 200,
		"http://prose." + domain + "/":                      301,
	} {
		if err := answers(visitor, url, want); err != nil {
			t.Error(err)
		}
	}
	if err := b.world.startTLS(); err != nil {
		t.Errorf("STARTTLS: %v", err)
	}
}

func answers(c *http.Client, url string, want int) error {
	res, err := c.Get(url)
	if err != nil {
		return err
	}
	res.Body.Close()
	if res.StatusCode != want {
		return fmt.Errorf("%s: %s", url, res.Status)
	}
	return nil
}
