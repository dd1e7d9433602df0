package ext4

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
)

const (
	xattrMagic  = 0xea020000
	extraSize   = 32                              // i_extra_isize: all fields that struct ext4_inode has
	xattrBody   = inodeSize - 128 - extraSize - 4 // bytes behind the magic in an inode
	xattrHeader = 32                              // struct ext4_xattr_header
	xattrBlock  = blockSize - xattrHeader         // bytes behind it
	xattrEnd    = 4                               // zero bytes that end the list of entries
	xattrBodyAt = inodeSize - xattrBody - 4       // of the magic
)

// An attr is an extended attribute as it is stored: the prefix of its name is a
// number. See Documentation/filesystems/ext4/attributes.rst.
type attr struct {
	index byte
	name  string
	value string
}

// size is what an attribute takes: an entry and a value, both padded to 4.
func (a *attr) size() int { return 16 + (len(a.name)+3)&^3 + (len(a.value)+3)&^3 }

var xattrPrefixes = []struct {
	prefix string
	index  byte
}{{"user.", 1}, {"trusted.", 4}, {"security.", 6}}

// attrs turns attributes to their stored form and says which lie in the inode
// and which in a block of their own. Both are sorted as the kernel searches a
// block: by index, length and bytes of the name.
func attrs(xattrs map[string]string) (body, block []attr, err error) {
	if len(xattrs) == 0 {
		return nil, nil, nil
	}
	all := make([]attr, 0, len(xattrs))
	for name, value := range xattrs {
		a, err := newAttr(name, value)
		if err != nil {
			return nil, nil, fmt.Errorf("attribute %s: %w", name, err)
		}
		all = append(all, a)
	}
	slices.SortFunc(all, func(a, b attr) int {
		return cmp.Or(cmp.Compare(a.index, b.index), cmp.Compare(len(a.name), len(b.name)), strings.Compare(a.name, b.name))
	})
	inBody, inBlock := xattrBody-xattrEnd, xattrBlock-xattrEnd
	for _, a := range all {
		switch n := a.size(); {
		case n <= inBody:
			inBody -= n
			body = append(body, a)
		case n <= inBlock:
			inBlock -= n
			block = append(block, a)
		default:
			return nil, nil, fmt.Errorf("%d attributes, one of them %q with a value of %d bytes, do not fit an inode and a block", len(all), a.name, len(a.value))
		}
	}
	return body, block, nil
}

func newAttr(name, value string) (attr, error) {
	switch name {
	case "system.posix_acl_access":
		v, err := storedACL(value)
		return attr{index: 2, value: v}, err
	case "system.posix_acl_default":
		v, err := storedACL(value)
		return attr{index: 3, value: v}, err
	}
	for _, p := range xattrPrefixes {
		if rest, ok := strings.CutPrefix(name, p.prefix); ok {
			if rest == "" || len(rest) > 255 {
				return attr{}, fmt.Errorf("its name has %d bytes behind %q, 1 to 255 fit", len(rest), p.prefix)
			}
			return attr{p.index, rest, value}, nil
		}
	}
	return attr{}, fmt.Errorf("ext4 stores user., trusted., security. and POSIX ACLs only")
}

// storedACL turns an ACL from the form of getxattr (version 2,
// include/uapi/linux/posix_acl_xattr.h) to the one on disk (version 1,
// fs/ext4/acl.h), where only entries for named users and groups have an id.
func storedACL(v string) (string, error) {
	le := binary.LittleEndian
	in := []byte(v)
	if len(in) < 4 || len(in)%8 != 4 || le.Uint32(in) != 2 {
		return "", fmt.Errorf("not an ACL of version 2")
	}
	out := le.AppendUint32(nil, 1)
	for e := in[4:]; len(e) > 0; e = e[8:] {
		out = append(out, e[:4]...)
		switch tag := le.Uint16(e); tag {
		case 0x02, 0x08: // ACL_USER, ACL_GROUP
			out = append(out, e[4:8]...)
		case 0x01, 0x04, 0x10, 0x20: // owner, owning group, mask, other
		default:
			return "", fmt.Errorf("unknown ACL tag %#x", tag)
		}
	}
	return string(out), nil
}

// putAttrs writes entries from the start of b and values from its end. Offsets
// of values count from base bytes before b. hashed entries carry a hash of name
// and value (in a block; in an inode it is 0), as ext4_xattr_hash_entry in
// fs/ext4/xattr.c makes it.
func putAttrs(b []byte, list []attr, base int, hashed bool) (hash uint32) {
	le := binary.LittleEndian
	at, end := 0, len(b)
	for _, a := range list {
		if len(a.value) > 0 {
			end -= (len(a.value) + 3) &^ 3
			copy(b[end:], a.value)
			le.PutUint16(b[at+2:], uint16(base+end))
		}
		b[at], b[at+1] = byte(len(a.name)), a.index
		le.PutUint32(b[at+8:], uint32(len(a.value)))
		copy(b[at+16:], a.name)
		if hashed {
			var h uint32
			for _, c := range []byte(a.name) {
				h = h<<5 ^ h>>27 ^ uint32(c)
			}
			for i := 0; i < len(a.value); i += 4 {
				h = h<<16 ^ h>>16 ^ le.Uint32(b[end+i:])
			}
			le.PutUint32(b[at+12:], h)
			hash = hash<<16 ^ hash>>16 ^ h
		}
		at += 16 + (len(a.name)+3)&^3
	}
	return hash
}

// attrBlock is the block of attributes that lies at the given place.
func attrBlock(list []attr, place uint64, seed uint32) []byte {
	b := make([]byte, blockSize)
	le := binary.LittleEndian
	hash := putAttrs(b[xattrHeader:], list, xattrHeader, true)
	le.PutUint32(b[0x00:], xattrMagic)
	le.PutUint32(b[0x04:], 1) // h_refcount
	le.PutUint32(b[0x08:], 1) // h_blocks
	le.PutUint32(b[0x0c:], hash)
	crc := crc32c(seed, le.AppendUint64(nil, place))
	le.PutUint32(b[0x10:], crc32c(crc, b))
	return b
}
