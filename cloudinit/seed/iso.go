package seed

import (
	"encoding/binary"
	"slices"
	"strings"
	"time"
	"unicode/utf16"
)

// An ISO 9660 image with one directory (ECMA-119; numbers there are recorded
// little-endian, big-endian or both ways round), by sectors of 2048 bytes:
//
//	 0-15  system area, zero
//	16     primary volume descriptor
//	17     Joliet volume descriptor
//	18     terminator
//	19-22  path tables: primary L and M, Joliet L and M
//	23     root directory, with Rock Ridge
//	24     root directory, Joliet
//	25-    files, each from its own sector
//
// Linux reads the Rock Ridge names, Windows the Joliet ones.
const (
	sector      = 2048
	pathTables  = 19
	primaryRoot = 23
	jolietRoot  = 24
	firstFile   = 25
)

type file struct {
	name string // as Linux shows it; at most 31 characters of a-z and -
	data []byte
	lba  uint32
}

// encode returns the image. Its only date is when.
func encode(label string, files []file, when time.Time) []byte {
	when = when.UTC()
	// Both directories must be sorted by name, and are by either kind of name:
	// no name is the beginning of another.
	slices.SortFunc(files, func(a, b file) int { return strings.Compare(a.name, b.name) })
	next := uint32(firstFile)
	for i := range files {
		files[i].lba = next
		next += uint32((len(files[i].data) + sector - 1) / sector)
	}
	img := make([]byte, int(next)*sector)
	at := func(lba uint32) []byte { return img[int(lba)*sector:] }

	volume(at(16), 1, primaryRoot, pathTables, next, label, when)
	volume(at(17), 2, jolietRoot, pathTables+2, next, label, when)
	copy(at(18), "\xffCD001\x01")
	for i, root := range []uint32{primaryRoot, jolietRoot} {
		pathTable(at(uint32(pathTables+2*i)), binary.LittleEndian, root)
		pathTable(at(uint32(pathTables+2*i+1)), binary.BigEndian, root)
	}

	// "." and ".." of a root directory are both itself. The first of them says
	// that Rock Ridge is in use: SP and ER of SUSP 1.10, sections 5.3 and 5.5.
	sp := []byte("SP\x07\x01\xbe\xef\x00")
	er := []byte("ER\x12\x01\x0a\x00\x00\x01RRIP_1991A")
	dir := posix(040755, 2, when)
	p := at(primaryRoot)
	p = p[record(p, "\x00", primaryRoot, sector, true, when, slices.Concat(sp, er, dir)):]
	p = p[record(p, "\x01", primaryRoot, sector, true, when, dir):]
	j := at(jolietRoot)
	j = j[record(j, "\x00", jolietRoot, sector, true, when, nil):]
	j = j[record(j, "\x01", jolietRoot, sector, true, when, nil):]
	for _, f := range files {
		nm := append([]byte{'N', 'M', byte(5 + len(f.name)), 1, 0}, f.name...)
		plain := strings.ToUpper(strings.ReplaceAll(f.name, "-", "_")) + ".;1"
		p = p[record(p, plain, f.lba, len(f.data), false, when, slices.Concat(nm, posix(0100644, 1, when))):]
		j = j[record(j, ucs2(f.name), f.lba, len(f.data), false, when, nil):]
		copy(at(f.lba), f.data)
	}
	return img
}

// volume writes a volume descriptor: the primary one (ECMA-119 section 8.4) or
// a supplementary one (8.5) that is Joliet's by its escape sequence.
func volume(b []byte, kind byte, root, table, sectors uint32, label string, when time.Time) {
	text := func(from, to int, s string) {
		blank := []byte(" ")
		if kind == 2 {
			s, blank = ucs2(s), []byte("\x00 ")
		}
		for i := from; i+len(blank) <= to; i += len(blank) {
			copy(b[i:], blank)
		}
		copy(b[from:to], s)
	}
	b[0] = kind
	copy(b[1:], "CD001\x01")
	text(8, 40, "")     // system
	text(40, 72, label) // volume
	both32(b[80:], sectors)
	if kind == 2 {
		copy(b[88:], "%/E") // UCS-2 level 3
	}
	both16(b[120:], 1) // volumes in the set
	both16(b[124:], 1) // number of this one
	both16(b[128:], sector)
	both32(b[132:], pathTableSize)
	binary.LittleEndian.PutUint32(b[140:], table)
	binary.BigEndian.PutUint32(b[148:], table+1)
	record(b[156:], "\x00", root, sector, true, when, nil)
	text(190, 318, "") // volume set
	text(318, 446, "") // publisher
	text(446, 574, "") // preparer
	text(574, 702, "") // application
	text(702, 739, "") // copyright, abstract and bibliographic file
	text(739, 776, "")
	text(776, 813, "")
	date := when.Format("20060102150405") + "00\x00"
	copy(b[813:], date)                   // made
	copy(b[830:], date)                   // changed
	copy(b[847:], "0000000000000000\x00") // never expires
	copy(b[864:], date)                   // in effect
	b[881] = 1
}

// pathTable writes the one entry of a path table (9.4): the root directory,
// whose parent is the first entry, itself.
func pathTable(b []byte, order binary.ByteOrder, root uint32) {
	b[0] = 1 // length of the name, which is a zero byte
	order.PutUint32(b[2:], root)
	order.PutUint16(b[6:], 1)
}

const pathTableSize = 10

// record writes a directory record (9.1) and returns its length. The system
// use area is Rock Ridge's.
func record(b []byte, name string, lba uint32, size int, dir bool, when time.Time, system []byte) int {
	n := 33 + len(name)
	n += n % 2
	copy(b[33:], name)
	copy(b[n:], system)
	n += len(system)
	n += n % 2
	b[0] = byte(n)
	both32(b[2:], lba)
	both32(b[10:], uint32(size))
	copy(b[18:], date7(when))
	if dir {
		b[25] = 2
	}
	both16(b[28:], 1) // volume
	b[32] = byte(len(name))
	return n
}

// posix is mode, links and times, all owned by root (RRIP 1.09, sections 4.1.1
// and 4.1.6).
func posix(mode, links uint32, when time.Time) []byte {
	px := make([]byte, 36)
	copy(px, "PX\x24\x01")
	both32(px[4:], mode)
	both32(px[12:], links)
	tf := []byte{'T', 'F', 5 + 3*7, 1, 0x0e} // changed, read, attributes changed
	for range 3 {
		tf = append(tf, date7(when)...)
	}
	return append(px, tf...)
}

// date7 is a date as directory records have it (9.1.5).
func date7(t time.Time) []byte {
	return []byte{byte(t.Year() - 1900), byte(t.Month()), byte(t.Day()), byte(t.Hour()), byte(t.Minute()), byte(t.Second()), 0}
}

func both16(b []byte, v uint16) {
	binary.LittleEndian.PutUint16(b, v)
	binary.BigEndian.PutUint16(b[2:], v)
}

func both32(b []byte, v uint32) {
	binary.LittleEndian.PutUint32(b, v)
	binary.BigEndian.PutUint32(b[4:], v)
}

func ucs2(s string) string {
	var b []byte
	for _, u := range utf16.Encode([]rune(s)) {
		b = binary.BigEndian.AppendUint16(b, u)
	}
	return string(b)
}
