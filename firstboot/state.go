package firstboot

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/prose-im/prose-image/cloudinit"
)

// A state is what is remembered between runs. It is a cache with one exception:
// the domain, which is also in the names of the certificates.
type state struct {
	Schema int `json:"schema"` // 1
	// Domain is what the machine was set up for. It never changes.
	Domain string `json:"domain,omitempty"`
	// identity is the machine that did all this.
	identity
	// Copied is since when the machine knows that its disk was another's, until
	// it is seen to be the one that DNS leads to.
	Copied time.Time `json:"copied,omitzero"`
	// Reset says that the machine is on its way back to its beginning.
	Reset bool `json:"reset,omitempty"`
	// Account says that the Pod was seen with an account: its dashboard is open.
	Account bool `json:"account,omitempty"`
	// Config is the prose.toml that was written last, and when: a Pod that
	// started before that has not read it.
	Config   string    `json:"config,omitempty"` // SHA-256
	ConfigAt time.Time `json:"config_at,omitzero"`
	// Site, Walls and Resolvers are what NGINX, the packet filter and resolved
	// have taken: SHA-256.
	Site      string `json:"site,omitempty"`
	Walls     string `json:"walls,omitempty"`
	Resolvers string `json:"resolvers,omitempty"`
	// Allow are the networks that NGINX has taken for the dashboard, by settings
	// without a mistake.
	Allow []string `json:"allow,omitempty"`
	// Ready is when everything answered for the first time.
	Ready time.Time `json:"ready,omitzero"`
}

const statePath = stateDir + "/state.json"

// loadState reads the state. One that cannot be read is kept as .bad, and what
// can be known without it is taken from the disk.
func (m *machine) loadState() (state, error) {
	b, err := m.read(statePath, root)
	if err != nil {
		return state{}, fmt.Errorf("reading what is remembered: %w", err)
	}
	var s state
	if b != nil {
		if json.Unmarshal(b, &s) == nil && s.Schema == 1 && (s.Domain == "" || cloudinit.CheckDomain(s.Domain) == nil) {
			return s, nil
		}
		if err := os.Rename(m.path(statePath), m.path(statePath+".bad")); err != nil {
			return state{}, fmt.Errorf("setting aside what is remembered: %w", err)
		}
	}
	return state{Schema: 1, Domain: m.domainOnDisk()}, nil
}

func (m *machine) saveState(s state) error {
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("remembering: %w", err)
	}
	if _, err := m.write(statePath, append(b, '\n'), 0o600, root); err != nil {
		return fmt.Errorf("remembering: %w", err)
	}
	return nil
}

// domainOnDisk is the domain whose certificates the machine has, or empty. Of
// their directories only root writes any.
func (m *machine) domainOnDisk() string {
	entries, err := os.ReadDir(filepath.Join(m.paths.Live, "live"))
	if err != nil {
		return ""
	}
	for _, e := range entries {
		if d, ok := strings.CutPrefix(e.Name(), "admin.prose."); ok && cloudinit.CheckDomain(d) == nil {
			return d
		}
	}
	return ""
}
