// Old-client-v1 walks through what a program of the first generation does, with the Atomix Go client v0.1.0 as it was published: New,
// GetGroup, GetLock, Lock, Unlock, and the same with GetDatabase. It knows the controller's address, and no other.
//
//	old-client-v1 [-within 1m] ADDRESS NAMESPACE NAME
package main

import (
	"context"

	"github.com/atomix/go-client/pkg/client"
	"github.com/atomix/go-client/pkg/client/lock"

	"steps"
)

func main() {
	ctx, walk, to := steps.Begin()
	atomix := steps.Do(walk, "New", func() (*client.Client, error) {
		return client.New(to.Address, client.WithNamespace(to.Namespace))
	})
	group := steps.Do(walk, "GetGroup", func() (*client.PartitionGroup, error) { return atomix.GetGroup(ctx, to.Name) })
	turn(ctx, walk, group)
	database := steps.Do(walk, "GetDatabase", func() (*client.Database, error) { return atomix.GetDatabase(ctx, to.Name) })
	turn(ctx, walk, database)
}

// turn takes a lock and gives it back.
func turn(ctx context.Context, walk *steps.Walk, storage lock.Client) {
	held := steps.Do(walk, "GetLock", func() (lock.Lock, error) { return storage.GetLock(ctx, "old-client") })
	version := steps.Do(walk, "Lock", func() (uint64, error) { return held.Lock(ctx) })
	steps.Want(walk, "IsLocked", true, func() (bool, error) { return held.IsLocked(ctx, lock.IfVersion(version)) })
	steps.Want(walk, "Unlock", true, func() (bool, error) { return held.Unlock(ctx) })
	steps.Want(walk, "IsLocked", false, func() (bool, error) { return held.IsLocked(ctx, lock.IfVersion(version)) })
	steps.Do(walk, "Close", func() (any, error) { return nil, held.Close(ctx) })
}
