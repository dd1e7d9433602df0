package image

import (
	"strings"
	"testing"

	"github.com/prose-im/prose-image/builder"
)

// The image's cloud-init has every datasource that a platform asks.
func TestDatasources(t *testing.T) {
	out, err := root(t).run([]string{"ls -p /usr/lib/python3/dist-packages/cloudinit/sources"})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range builder.Platforms {
		for _, name := range p.Datasources {
			if !strings.Contains(out, "/DataSource"+name+".py/") {
				t.Errorf("%s asks %s, which cloud-init does not have", p.Name, name)
			}
		}
	}
}
