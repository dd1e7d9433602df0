package writelog

import "math/rand/v2"

// A Point is a moment at which the power is cut: so many entries of a record
// had happened. What the disk had not been made to keep by then is kept, lost
// or torn by a coin.
type Point struct {
	Entries int
	Seed    uint64 // of the coin
}

// Settled is how many of the first n entries are on the disk for good, whatever
// becomes of the others: those before the last flush.
//
// QEMU writes an entry down when it is done. A write that is done while a flush
// is on its way stands before that flush, although the flush need not have
// caught it: so a disk may lose a little more than is tried here, and what is
// tried could really happen.
func (l *Log) Settled(n int) int {
	for i := min(n, len(l.Entries)) - 1; i >= 0; i-- {
		if l.Entries[i].Flags&Flush != 0 {
			return i + 1
		}
	}
	return 0
}

// A Piece is a part of an entry that reached the disk.
type Piece struct {
	Entry  int
	Offset int64 // bytes, in the entry
	Length int64 // bytes
}

// Pieces are what reached the disk at a point besides what was settled, in the
// order in which it is to be written. That order is the record's: a write that
// is not kept is as good as one that was late, and two of the same place are in
// flight together only when the guest is broken.
//
// A write is kept, lost, or torn at units of 512 or, as on most disks, 4096
// bytes, each of which is kept or lost.
func (l *Log) Pieces(p Point) []Piece {
	n := min(p.Entries, len(l.Entries))
	coin := rand.New(rand.NewPCG(p.Seed, uint64(n)))
	unit := []int64{512, 4096}[coin.IntN(2)]
	// Sometimes nearly all is lost, and sometimes next to nothing.
	keep := []float64{0, 0.1, 0.5, 0.5, 0.9, 1}[coin.IntN(6)]
	var all []Piece
	for i := l.Settled(n); i < n; i++ {
		e := l.Entries[i]
		length := int64(e.Sectors) * l.Sector
		if length == 0 {
			continue
		}
		if e.Flags&FUA != 0 {
			all = append(all, Piece{i, 0, length})
			continue
		}
		if torn := coin.IntN(4) == 0; !torn || e.Flags&Discard != 0 {
			if coin.Float64() < keep {
				all = append(all, Piece{i, 0, length})
			}
			continue
		}
		for at := int64(0); at < length; at += unit {
			if coin.Float64() < keep {
				all = append(all, Piece{i, at, min(unit, length-at)})
			}
		}
	}
	return all
}
