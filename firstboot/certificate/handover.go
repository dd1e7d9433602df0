package certificate

import (
	"context"
	"fmt"
	"path/filepath"
	"time"
)

// copy gives Prosody the pair it should have: the key first, because Prosody
// looks for one once it sees a chain.
func (k *Keeper) copy(host string) error {
	live, chain, key, err := readPair(k.Paths.liveDir(host), host)
	if err != nil {
		return fmt.Errorf("reading the certificate of %s: %w", host, err)
	}
	if !live.Signed {
		if chain, key, err = SelfSigned([]string{host}, k.Clock()); err != nil {
			return err
		}
	}
	for _, f := range []struct {
		name string
		data []byte
	}{{"privkey.pem", key}, {"fullchain.pem", chain}} {
		if err := k.WriteProsody(filepath.Join(host, f.name), f.data); err != nil {
			return fmt.Errorf("giving Prosody the certificate of %s: %w", host, err)
		}
	}
	return nil
}

// reload tells a server and waits until it shows the right certificate.
func (k *Keeper) reload(ctx context.Context, a Action, tell func(context.Context) error, good func() bool) error {
	if k.reloaded == nil {
		k.reloaded = map[Action]time.Time{}
	}
	k.reloaded[a] = k.Clock()
	if err := tell(ctx); err != nil {
		return fmt.Errorf("%s: %w", a, err)
	}
	for begin := time.Now(); !good(); {
		if time.Since(begin) > 10*time.Second {
			return fmt.Errorf("%s: the server still shows another certificate", a)
		}
		if err := sleep(ctx, 200*time.Millisecond); err != nil {
			return err
		}
	}
	delete(k.reloaded, a) // only one that did not help must wait
	return nil
}
