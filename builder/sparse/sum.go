package sparse

import (
	"context"
	"crypto/sha256"
	"hash"
	"os"
)

// chunk is how much is read or hashed at a time.
const chunk = 1 << 20

// A Sum is the SHA-256 of a file from its start up to some place. What its
// writer still holds in memory it need not read.
type Sum struct {
	f   *os.File
	h   hash.Hash
	at  int64
	buf []byte
}

// NewSum begins at the start of f.
func NewSum(f *os.File) *Sum { return &Sum{f: f, h: sha256.New()} }

// Reach reads the file from where the sum is up to end, its holes not.
func (s *Sum) Reach(ctx context.Context, end int64) error {
	if s.at >= end {
		return nil
	}
	if s.buf == nil {
		s.buf = make([]byte, chunk)
	}
	for e, err := range extents(s.f, s.at, end, 1) {
		if err != nil {
			return err
		}
		s.zeros(e.Start)
		for s.at < e.End {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			b := s.buf[:min(e.End-s.at, chunk)]
			if err := ReadAt(s.f, b, s.at); err != nil {
				return err
			}
			s.Add(b)
		}
	}
	s.zeros(end)
	return nil
}

// Add adds b, which is what the file holds behind the place of the sum.
func (s *Sum) Add(b []byte) {
	s.h.Write(b)
	s.at += int64(len(b))
}

func (s *Sum) zeros(end int64) {
	for s.at < end {
		s.Add(zeros[:min(end-s.at, int64(len(zeros)))])
	}
}

// Sum is the SHA-256 of all up to the place.
func (s *Sum) Sum() []byte { return s.h.Sum(nil) }
