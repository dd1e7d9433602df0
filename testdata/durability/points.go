package durability

import (
	"bytes"
	"math/rand/v2"
	"slices"

	"github.com/prose-im/prose-image/builder/boot/writelog"
)

// signs are how files of the agent begin or what they have in them: writes with
// one of them are the moments that matter most.
var signs = [][]byte{
	[]byte(`"schema": 1`), []byte(`"host": "`), []byte("-----BEGIN CERTIFICATE-----"), []byte("-----BEGIN PRIVATE KEY-----"),
	[]byte("# Written by prose-firstboot"), []byte("urn:xmpp:alt-connections"),
}

// first begins the time that is looked at: what is remembered for the first
// time.
var first = signs[0]

// agents finds the writes with files of the agent in them. Files are written
// from the beginning of a block.
func agents(l *writelog.Log) (all []int, err error) {
	const block, head = 4096, 512
	for i := range l.Entries {
		b, err := l.Content(i)
		if err != nil {
			return nil, err
		}
		for at := 0; at < len(b); at += block {
			start := b[at:min(at+head, len(b))]
			if len(all) == 0 && !bytes.Contains(start, first) {
				continue
			}
			if slices.ContainsFunc(signs, func(s []byte) bool { return bytes.Contains(start, s) }) {
				all = append(all, i)
				break
			}
		}
	}
	return all, nil
}

// points draws n moments from the agent's first write on: half of them where
// its files are on their way or orders are finalized, within a few writes, the
// others anywhere.
func points(l *writelog.Log, writes []int, finalized []moment, n int, seed uint64) []writelog.Point {
	coin := rand.New(rand.NewPCG(seed, 0))
	hot := slices.Clone(writes)
	for _, m := range finalized {
		hot = append(hot, m.Entries)
	}
	all := make([]writelog.Point, n)
	for i := range all {
		at := writes[0] + coin.IntN(len(l.Entries)-writes[0]+1)
		if i%2 == 0 {
			at = min(hot[coin.IntN(len(hot))]+coin.IntN(24), len(l.Entries))
		}
		all[i] = writelog.Point{Entries: at, Seed: coin.Uint64()}
	}
	slices.SortFunc(all, func(a, b writelog.Point) int { return a.Entries - b.Entries })
	return all
}
