package ext4

import (
	"context"
	"fmt"
)

// Locate says which file of a measured file system the byte at offset belongs
// to, by its content or by its inode. Empty: to none, or to what several share,
// such as a bitmap. It reads all contents, for where they lie depends on them.
func Locate(ctx context.Context, l Layout, offset int64) (string, error) {
	if l.plan == nil {
		return "", fmt.Errorf("locating in ext4: the layout was not measured")
	}
	block := uint64(offset / blockSize)
	if ino := l.geo.inodeAt(offset); ino != 0 {
		return l.plan.inodePath(ino), nil
	}
	found := uint32(0)
	w := newWriter(ctx, nowhere{}, &l)
	w.placed = func(ino uint32, start, count uint64) {
		if start <= block && block-start < count {
			found = ino
		}
	}
	if err := w.write(); err != nil {
		return "", fmt.Errorf("locating in %w", err)
	}
	return l.plan.inodePath(found), nil
}

// inodeAt is the inode whose record has the byte at offset, or 0.
func (g *geometry) inodeAt(offset int64) uint32 {
	for group, table := range g.inodeTable {
		in := offset - int64(table)*blockSize
		if in >= 0 && in < int64(g.inodesPerGroup)*inodeSize {
			return uint32(group)*g.inodesPerGroup + uint32(in/inodeSize) + 1
		}
	}
	return 0
}

// inodePath is the first name of an inode; empty for one that has none.
func (p *plan) inodePath(ino uint32) string {
	for i := range p.dirs {
		if p.dirs[i].ino == ino {
			return p.path(int32(i))
		}
	}
	if at := int64(ino) - inoFirst; at >= 0 && at < int64(len(p.nodes)) {
		return p.nodePath(&p.nodes[at])
	}
	return ""
}

// nowhere takes what is written and forgets it.
type nowhere struct{}

func (nowhere) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }
