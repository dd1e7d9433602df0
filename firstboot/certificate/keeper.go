package certificate

import (
	"context"
	"fmt"
	"path/filepath"
	"time"
)

// Keeper looks and acts. Only one may work on the same paths at a time: the
// caller holds the agent's lock.
type Keeper struct {
	Settings Settings
	Paths    Paths
	Ports    Ports
	Clock    func() time.Time

	// WriteProsody replaces a file below Paths.Prosody, with missing directories,
	// atomically, owned by Prosody and readable by nobody else. Until it has its
	// name, the file must not be called *.crt or hold "fullchain" in its name.
	WriteProsody func(name string, data []byte) error
	// ReloadNGINX and ReloadProsody make a server read its certificates again.
	ReloadNGINX, ReloadProsody func(context.Context) error

	reloaded  map[Action]time.Time
	shown     map[string]showing
	finalized func() // a test's: the authority has signed, we have nothing yet
}

// Next decides on a step. See the function of the same name.
func (k *Keeper) Next(o Observed) Step { return Next(k.Settings, o, k.reloaded, k.Clock()) }

// Do does one step. An error is for people: what must be remembered of it is
// on disk, and the next look decides anew.
func (k *Keeper) Do(ctx context.Context, s Step) error {
	var name Name
	for _, n := range k.Settings.Names {
		if n.Host == s.Host {
			name = n
		}
	}
	if name.Host == "" && s.Action != Idle {
		return fmt.Errorf("the name %q is none of ours", s.Host)
	}
	switch s.Action {
	case Idle:
		return nil
	case Interim:
		return k.interim(name.Host)
	case Bring:
		return k.bring(name.Host)
	case Restore:
		best := k.Paths.archived(name.Host, k.Clock())
		if !best.Usable {
			return fmt.Errorf("restoring the certificate of %s: it is gone", name.Host)
		}
		return k.Paths.point(name.Host, best.Serial)
	case CopyProsody:
		return k.copy(name.Host)
	case ReloadNGINX:
		return k.reload(ctx, s.Action, k.ReloadNGINX, func() bool {
			return ServedHTTPS(ctx, k.Ports.HTTPS, name.Host).Shows(k.Paths.live(name.Host))
		})
	case ReloadProsody:
		return k.reload(ctx, s.Action, k.ReloadProsody, func() bool {
			file, _, _, _ := readPair(filepath.Join(k.Paths.Prosody, name.Host), name.Host)
			return k.xmpp(ctx, name).Shows(file)
		})
	case CheckDNS:
		return k.check(ctx, name)
	case GetOne:
		return k.order(ctx, name)
	case AskRenewal:
		return k.ask(ctx, name.Host)
	}
	return fmt.Errorf("there is no step %q", s.Action)
}
