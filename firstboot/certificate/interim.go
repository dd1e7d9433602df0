package certificate

// interim makes one self-signed pair with all names and puts it in front of
// NGINX for this one.
func (k *Keeper) interim(host string) error {
	now := k.Clock()
	var all []string
	for _, n := range k.Settings.Names {
		all = append(all, n.Host)
	}
	// The names share one, so that a person has one fingerprint to compare.
	for _, n := range all {
		pair, chain, key, err := readPair(k.Paths.liveDir(n), host)
		if err != nil || pair.Signed || !pair.Valid(now) || n == host {
			continue
		}
		return k.install(host, chain, key)
	}
	chain, key, err := SelfSigned(all, now)
	if err != nil {
		return err
	}
	return k.install(host, chain, key)
}

func (k *Keeper) install(host string, chain, key []byte) error {
	serial, err := k.Paths.store(host, chain, key, false)
	if err != nil {
		return err
	}
	return k.Paths.point(host, serial)
}
