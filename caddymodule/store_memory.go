package caddymodule

import (
	"fmt"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-wechat/caddy-wechat/ticket"
)

// StoreProvider is a guest module in the namespace wechat.stores.
type StoreProvider interface {
	// TicketStore returns the store; it works from Provision on.
	TicketStore() ticket.Store
}

// RevocationKeeper is a StoreProvider that keeps ended sessions, too, in place of Caddy's storage.
type RevocationKeeper interface {
	// Revocations returns where they are kept, and a text that is the same for the same place and holds no
	// secret. Nothing is asked before the configuration runs.
	Revocations() (storage ticket.RevocationStorage, place string)
}

// MemoryStore keeps tickets and what else is short-lived in this process. They survive a reload.
type MemoryStore struct {
	// How many bytes it may take; what comes on top is turned away. Default: 64 MiB.
	Size int64 `json:"size,omitempty"`

	memory *ticket.Memory
}

const (
	defaultMemory = 64 << 20
	minMemory     = 1 << 20
)

func init() {
	caddy.RegisterModule(new(MemoryStore))
}

// CaddyModule returns the Caddy module information.
func (*MemoryStore) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "wechat.stores.memory", New: func() caddy.Module { return new(MemoryStore) }}
}

// memoryPool holds the one Memory of the process, whatever its size in this configuration: a reload in
// the middle of a login, a new size included, loses none.
var memoryPool = caddy.NewUsagePool()

type pooledMemory struct{ *ticket.Memory }

func (pooledMemory) Destruct() error { return nil }

// Provision takes the process's memory.
func (m *MemoryStore) Provision(caddy.Context) error {
	if m.Size == 0 {
		m.Size = defaultMemory
	}
	pooled, _ := memoryPool.LoadOrStore("memory", pooledMemory{ticket.NewMemory()})
	m.memory = pooled.(pooledMemory).Memory
	return nil
}

// Validate refuses a size that logins would not fit in.
func (m *MemoryStore) Validate() error {
	if m.Size < minMemory {
		return fmt.Errorf("store memory of %d bytes is too small; use 1MiB or more", m.Size)
	}
	return nil
}

// Cleanup gives the process's memory back.
func (m *MemoryStore) Cleanup() error {
	if m.memory == nil {
		return nil
	}
	_, err := memoryPool.Delete("memory")
	return err
}

// TicketStore implements StoreProvider.
func (m *MemoryStore) TicketStore() ticket.Store { return m.memory.Limited(m.Size) }

// Interface guards.
var (
	_ caddy.Provisioner  = (*MemoryStore)(nil)
	_ caddy.Validator    = (*MemoryStore)(nil)
	_ caddy.CleanerUpper = (*MemoryStore)(nil)
	_ StoreProvider      = (*MemoryStore)(nil)
)
