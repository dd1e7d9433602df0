package certificate

import (
	"fmt"
)

// read looks whether the owner's pair can stand for a name. One that signed
// itself cannot: no app trusts it, and it would be taken for ours.
func (o OwnPair) read(host string) (Pair, string) {
	pair, leaf, err := parsePair(host, o.Chain, o.Key)
	switch {
	case err != nil:
		return Pair{}, err.Error()
	case !pair.Signed:
		return Pair{}, "it is signed by itself, so no app trusts it"
	case leaf.IsCA:
		return Pair{}, "the first certificate is an authority's; the domain's must come first"
	}
	pair.Own = true
	return pair, ""
}

// Covers says whether the owner's pair can stand for a name.
func (o OwnPair) Covers(host string) bool {
	pair, _ := o.read(host)
	return pair.Usable
}

// bring puts the owner's pair in front of NGINX.
func (k *Keeper) bring(host string) error {
	if _, why := k.Settings.Own.read(host); why != "" {
		return fmt.Errorf("installing your own certificate of %s: %s", host, why)
	}
	dir, err := k.Paths.store(host, k.Settings.Own.Chain, k.Settings.Own.Key, true)
	if err != nil {
		return err
	}
	return k.Paths.point(host, dir)
}
