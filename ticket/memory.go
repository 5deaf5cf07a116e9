package ticket

import (
	"bytes"
	"container/heap"
	"context"
	"sync"
	"time"
)

// Memory is the store of a single gateway: bounded, exact, gone with the process.
type Memory struct {
	mu      sync.Mutex
	entries map[string]*memoryEntry // guarded by mu
	ending  memoryHeap              // guarded by mu; the same entries, the next to end first
	bytes   int64                   // guarded by mu; what entries take
}

type memoryEntry struct {
	key   string
	value []byte
	count int64
	ends  time.Time
	index int // in ending
}

// memoryOverhead is what an entry takes beside its key and value: the struct, its share of the map and
// the heap. In bytes, measured on amd64 and rounded up.
const memoryOverhead = 192

func (e *memoryEntry) size() int64 { return int64(len(e.key)+len(e.value)) + memoryOverhead }

// NewMemory returns an empty store. Use it through Limited.
func NewMemory() *Memory { return &Memory{entries: map[string]*memoryEntry{}} }

// Limited returns m as a Store that turns away what would take more than limit bytes in all. Two views
// with different limits may share one Memory: that is how a reload changes the limit and loses nothing.
func (m *Memory) Limited(limit int64) Store { return memoryView{m, limit} }

// Bytes returns what the entries take.
func (m *Memory) Bytes() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.dropEnded(time.Now())
	return m.bytes
}

type memoryView struct {
	m     *Memory
	limit int64
}

func (v memoryView) Put(_ context.Context, key string, value []byte, ttl time.Duration) error {
	v.m.mu.Lock()
	defer v.m.mu.Unlock()
	now := time.Now()
	if v.m.live(key, now) != nil {
		return ErrExists
	}
	return v.m.add(&memoryEntry{key: key, value: bytes.Clone(value), ends: now.Add(ttl)}, v.limit)
}

func (v memoryView) Get(_ context.Context, key string) ([]byte, error) {
	v.m.mu.Lock()
	defer v.m.mu.Unlock()
	e := v.m.live(key, time.Now())
	if e == nil {
		return nil, ErrNotFound
	}
	return bytes.Clone(e.value), nil
}

func (v memoryView) Take(_ context.Context, key string, prefix []byte) ([]byte, error) {
	v.m.mu.Lock()
	defer v.m.mu.Unlock()
	e := v.m.live(key, time.Now())
	if e == nil || !bytes.HasPrefix(e.value, prefix) {
		return nil, ErrNotFound
	}
	v.m.remove(e)
	return e.value, nil
}

func (v memoryView) Count(_ context.Context, key string, ttl time.Duration) (int64, error) {
	v.m.mu.Lock()
	defer v.m.mu.Unlock()
	now := time.Now()
	e := v.m.live(key, now)
	if e == nil {
		e = &memoryEntry{key: key, ends: now.Add(ttl)}
		if err := v.m.add(e, v.limit); err != nil {
			return 0, err
		}
	}
	e.count++
	return e.count, nil
}

// live drops what has ended and returns the entry under key. The caller holds mu.
func (m *Memory) live(key string, now time.Time) *memoryEntry {
	m.dropEnded(now)
	return m.entries[key]
}

func (m *Memory) dropEnded(now time.Time) {
	for len(m.ending) > 0 && !m.ending[0].ends.After(now) {
		m.remove(m.ending[0])
	}
}

func (m *Memory) add(e *memoryEntry, limit int64) error {
	if m.bytes+e.size() > limit {
		return ErrFull
	}
	m.entries[e.key] = e
	heap.Push(&m.ending, e)
	m.bytes += e.size()
	return nil
}

func (m *Memory) remove(e *memoryEntry) {
	heap.Remove(&m.ending, e.index)
	delete(m.entries, e.key)
	m.bytes -= e.size()
}

type memoryHeap []*memoryEntry

func (h memoryHeap) Len() int           { return len(h) }
func (h memoryHeap) Less(i, j int) bool { return h[i].ends.Before(h[j].ends) }
func (h memoryHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

func (h *memoryHeap) Push(x any) {
	e := x.(*memoryEntry)
	e.index = len(*h)
	*h = append(*h, e)
}

func (h *memoryHeap) Pop() any {
	old := *h
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return e
}
