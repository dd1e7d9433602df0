package format

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"iter"
	"os"
	"runtime/debug"
	"sync"

	"github.com/klauspost/compress/flate"

	"github.com/prose-im/prose-image/builder/clusters"
)

// The format is docs/interop/qcow2.rst of QEMU, version 3, with no feature that
// a reader could lack: compressed clusters are raw deflate, as they were from
// the first version on.
const (
	clusterBits  = 16
	clusterSize  = 1 << clusterBits
	l2Entries    = clusterSize / 8
	refsPerBlock = clusterSize / 2 // of 16 bits each
	headerLength = 104

	oflagCopied     = 1 << 63 // a cluster that nothing else uses
	oflagCompressed = 1 << 62
	// A compressed cluster's entry holds its offset in the low bits and above
	// them the number of sectors of 512 bytes that it goes on for.
	sectorShift = 62 - (clusterBits - 8)

	// QEMU opens deflate with windowBits -12: nothing may refer further back.
	deflateWindow = 4096

	// How many clusters are set apart at a time for compressed ones, so that
	// those stored as they are do not leave a gap at each change.
	runClusters = 32

	batchClusters = 16 // that one worker takes at a time
)

// A batch is some clusters in a row on their way through a compressor.
type batch struct {
	first  int64 // number of the first cluster
	plain  []byte
	packed bytes.Buffer
	ends   [batchClusters]int // of the packed clusters in packed
	kinds  [batchClusters]clusterKind
	keys   [batchClusters]clusters.Key // of those that are not zero
	fresh  [batchClusters]bool         // deflated here, and not found
}

type clusterKind uint8

const (
	zeroCluster clusterKind = iota
	plainCluster
	packedCluster
)

// writeQcow2 writes clusters in the order of the disk, then the tables, then
// the header: what is cut off is no qcow2.
//
// Clusters that the store has are not deflated, and those that it has not are
// kept there; that it cannot be written is no error.
func writeQcow2(ctx context.Context, dst, src *os.File, size int64, o Options) ([]byte, error) {
	store, err := openStore(o.Clusters)
	if err != nil {
		return nil, err
	}
	defer store.Close()
	q := newQcow2(dst, size)
	compressors := make(chan *flate.Writer, maxWorkers)
	for range cap(compressors) {
		w, err := newDeflate()
		if err != nil {
			return nil, err
		}
		compressors <- w
	}
	next, stop := batches(src, size)
	defer stop()
	err = ordered(ctx,
		func() *batch { return &batch{plain: make([]byte, batchClusters*clusterSize)} },
		next,
		func(b *batch) error {
			w := <-compressors
			defer func() { compressors <- w }()
			return b.pack(w, store)
		},
		func(b *batch) error {
			b.keep(store)
			return q.add(b)
		})
	if err != nil {
		return nil, err
	}
	_ = store.Commit()
	return nil, q.finish()
}

// openStore opens the store of deflated clusters in dir, or none.
func openStore(dir string) (*clusters.Store, error) {
	coder := deflater()
	if dir == "" || coder == "" {
		return nil, nil
	}
	return clusters.Open(dir, coder)
}

// deflater names what turns a cluster into its deflated bytes: another version
// of the library may turn it into others. Empty: it is not known.
var deflater = sync.OnceValue(func() string {
	const module = "github.com/klauspost/compress"
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, m := range info.Deps {
		if m.Path != module {
			continue
		}
		if m.Replace != nil {
			m = m.Replace
		}
		if m.Sum == "" {
			return "" // a directory, whose content may change
		}
		return fmt.Sprintf("deflate of %s %s %s, window %d, clusters of %d", m.Path, m.Version, m.Sum, deflateWindow, clusterSize)
	}
	return ""
})

func newDeflate() (*flate.Writer, error) { return flate.NewWriterWindow(nil, deflateWindow) }

// batches returns a function that fills the next batch with data of src, and
// one that must be called when no more are wanted.
func batches(src *os.File, size int64) (next func(*batch) (bool, error), stop func()) {
	pull, stop := iter.Pull2(extents(src, size, clusterSize))
	var e extent
	return func(b *batch) (bool, error) {
		for e.start == e.end {
			var err error
			var more bool
			if e, err, more = pull(); !more || err != nil {
				return false, err
			}
		}
		n := min(e.end-e.start, batchClusters*clusterSize)
		b.first = e.start / clusterSize
		b.plain = b.plain[:(n+clusterSize-1)/clusterSize*clusterSize]
		clear(b.plain[n:]) // beyond the end of the disk
		if err := readAt(src, b.plain[:n], e.start); err != nil {
			return false, err
		}
		e.start += n
		return true, nil
	}, stop
}

// pack compresses the clusters for which that makes them smaller.
func (b *batch) pack(w *flate.Writer, store *clusters.Store) error {
	b.packed.Reset()
	b.fresh = [batchClusters]bool{}
	for i := range len(b.plain) / clusterSize {
		cluster := b.plain[i*clusterSize:][:clusterSize]
		start := b.packed.Len()
		b.kinds[i] = zeroCluster
		if !isZero(cluster) {
			if err := b.packOne(i, cluster, w, store); err != nil {
				return err
			}
			b.kinds[i] = packedCluster
			if b.packed.Len() == start {
				b.kinds[i] = plainCluster
			}
		}
		b.ends[i] = b.packed.Len()
	}
	return nil
}

// packOne adds cluster i to packed, unless it is better stored as it is.
func (b *batch) packOne(i int, cluster []byte, w *flate.Writer, store *clusters.Store) error {
	start := b.packed.Len()
	if store != nil {
		b.keys[i] = sha256.Sum256(cluster)
		if known, ok := store.Get(b.keys[i], b.packed.AvailableBuffer()); ok {
			b.packed.Write(known)
			return nil
		}
		b.fresh[i] = true
	}
	w.Reset(&b.packed)
	if _, err := w.Write(cluster); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	if b.packed.Len()-start >= clusterSize {
		b.packed.Truncate(start)
	}
	return nil
}

// keep has the store keep what it had not.
func (b *batch) keep(store *clusters.Store) {
	start := 0
	for i := range len(b.plain) / clusterSize {
		if b.fresh[i] {
			store.Add(b.keys[i], b.packed.Bytes()[start:b.ends[i]])
		}
		start = b.ends[i]
	}
}

// A qcow2 is a file being written. Clusters of the file are handed out in
// rising order; refs counts the uses of each.
type qcow2 struct {
	dst  *os.File
	size int64 // of the disk
	refs []uint16
	l1   []uint64
	l1At int64

	l2      []uint64 // of the part of the disk being written; nil: none yet
	l2Index int64    // its place in l1

	// Compressed clusters are packed from packed up to packedEnd, a run of
	// clusters that is theirs. pending are those not written yet, which end at
	// packed.
	packed, packedEnd int64
	pending           []byte
}

func newQcow2(dst *os.File, size int64) *qcow2 {
	const perTable = l2Entries * clusterSize
	q := &qcow2{dst: dst, size: size, l1: make([]uint64, (size+perTable-1)/perTable)}
	q.take(1) // the header
	q.l1At = q.take(int64(len(q.l1)*8+clusterSize-1) / clusterSize)
	return q
}

// take hands out n clusters in a row and returns their offset.
func (q *qcow2) take(n int64) int64 {
	at := q.extend(n)
	for i := range n {
		q.refs[at/clusterSize+i] = 1
	}
	return at
}

// extend makes the file n clusters longer; nothing uses them yet.
func (q *qcow2) extend(n int64) int64 {
	at := int64(len(q.refs)) * clusterSize
	q.refs = append(q.refs, make([]uint16, n)...)
	return at
}

func (q *qcow2) add(b *batch) error {
	start := 0
	for i := range len(b.plain) / clusterSize {
		packed := b.packed.Bytes()[start:b.ends[i]]
		start = b.ends[i]
		var entry uint64
		var err error
		switch b.kinds[i] {
		case zeroCluster:
			continue
		case plainCluster:
			at := q.take(1)
			_, err = q.dst.WriteAt(b.plain[i*clusterSize:][:clusterSize], at)
			entry = oflagCopied | uint64(at)
		case packedCluster:
			entry, err = q.put(packed)
		}
		if err == nil {
			err = q.set(b.first+int64(i), entry)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// put adds a compressed cluster to the run and returns its table entry.
func (q *qcow2) put(b []byte) (uint64, error) {
	n := int64(len(b))
	if q.packed+n > q.packedEnd {
		if q.packedEnd != int64(len(q.refs))*clusterSize { // something lies behind it
			if err := q.flush(); err != nil {
				return 0, err
			}
			q.packed = int64(len(q.refs)) * clusterSize
		}
		q.packedEnd = q.extend(runClusters) + runClusters*clusterSize
	}
	at := q.packed
	q.pending = append(q.pending, b...)
	q.packed += n
	last := q.packed - 1
	for c := at / clusterSize; c <= last/clusterSize; c++ {
		q.refs[c]++
	}
	if len(q.pending) >= chunk {
		if err := q.flush(); err != nil {
			return 0, err
		}
	}
	return oflagCompressed | uint64(last>>9-at>>9)<<sectorShift | uint64(at), nil
}

// flush writes what is pending.
func (q *qcow2) flush() error {
	_, err := q.dst.WriteAt(q.pending, q.packed-int64(len(q.pending)))
	q.pending = q.pending[:0]
	return err
}

// set notes where a cluster of the disk is. Clusters come in order, so that one
// table at a time is in memory.
func (q *qcow2) set(cluster int64, entry uint64) error {
	if index := cluster / l2Entries; q.l2 == nil || index != q.l2Index {
		if err := q.endTable(); err != nil {
			return err
		}
		q.l2, q.l2Index = make([]uint64, l2Entries), index
	}
	q.l2[cluster%l2Entries] = entry
	return nil
}

func (q *qcow2) endTable() error {
	if q.l2 == nil {
		return nil
	}
	at := q.take(1)
	q.l1[q.l2Index] = oflagCopied | uint64(at)
	_, err := q.dst.WriteAt(bigEndian(q.l2), at)
	return err
}

func (q *qcow2) finish() error {
	if err := q.flush(); err != nil {
		return err
	}
	// What is left of the last run is of no use, and often the end of the file.
	if q.packedEnd == int64(len(q.refs))*clusterSize {
		q.refs = q.refs[:(q.packed+clusterSize-1)/clusterSize]
	}
	if err := q.endTable(); err != nil {
		return err
	}
	refTable, refTableClusters, err := q.writeRefs()
	if err != nil {
		return err
	}
	if _, err := q.dst.WriteAt(bigEndian(q.l1), q.l1At); err != nil {
		return err
	}
	if err := q.dst.Truncate(int64(len(q.refs)) * clusterSize); err != nil {
		return err
	}
	_, err = q.dst.WriteAt(q.header(refTable, refTableClusters), 0)
	return err
}

// writeRefs writes the counts of uses. Their own clusters are counted too,
// which may take one more block.
func (q *qcow2) writeRefs() (table, clusters int64, err error) {
	var blocks []int64
	for {
		clusters = int64((len(blocks)*8 + clusterSize - 1) / clusterSize)
		need := (int64(len(q.refs)) + clusters + refsPerBlock - 1) / refsPerBlock
		if int64(len(blocks)) >= need {
			break
		}
		blocks = append(blocks, q.take(1))
	}
	table = q.take(clusters)
	entries := make([]uint64, len(blocks))
	for i, at := range blocks {
		entries[i] = uint64(at)
		b := make([]byte, 0, clusterSize)
		for _, n := range q.refs[i*refsPerBlock : min((i+1)*refsPerBlock, len(q.refs))] {
			b = binary.BigEndian.AppendUint16(b, n)
		}
		if _, err := q.dst.WriteAt(b, at); err != nil {
			return 0, 0, err
		}
	}
	_, err = q.dst.WriteAt(bigEndian(entries), table)
	return table, clusters, err
}

func (q *qcow2) header(refTable, refTableClusters int64) []byte {
	h := make([]byte, headerLength+8) // with the mark that no extension follows
	be := binary.BigEndian
	copy(h, "QFI\xFB")
	be.PutUint32(h[4:], 3)
	be.PutUint32(h[20:], clusterBits)
	be.PutUint64(h[24:], uint64(q.size))
	be.PutUint32(h[36:], uint32(len(q.l1)))
	be.PutUint64(h[40:], uint64(q.l1At))
	be.PutUint64(h[48:], uint64(refTable))
	be.PutUint32(h[56:], uint32(refTableClusters))
	be.PutUint32(h[96:], 4) // counts of 1<<4 bits
	be.PutUint32(h[100:], headerLength)
	return h
}

func bigEndian(table []uint64) []byte {
	b := make([]byte, 0, len(table)*8)
	for _, v := range table {
		b = binary.BigEndian.AppendUint64(b, v)
	}
	return b
}
