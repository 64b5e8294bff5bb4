// Old-client walks through what a program of the second generation does, with the Atomix Go client as it was published, of the version
// in go.mod: New, GetDatabase, GetLock, Lock, Unlock. It knows the controller's address, and no other. One text for v2, v3 and v4.
//
//	old-client-v4 [-within 1m] ADDRESS NAMESPACE NAME
package main

import (
	"github.com/atomix/go-client/pkg/client"
	"github.com/atomix/go-client/pkg/client/lock"

	"steps"
)

func main() {
	ctx, walk, to := steps.Begin()
	atomix := steps.Do(walk, "New", func() (*client.Client, error) {
		return client.New(to.Address, client.WithNamespace(to.Namespace))
	})
	database := steps.Do(walk, "GetDatabase", func() (*client.Database, error) { return atomix.GetDatabase(ctx, to.Name) })
	held := steps.Do(walk, "GetLock", func() (lock.Lock, error) { return database.GetLock(ctx, "old-client") })
	version := steps.Do(walk, "Lock", func() (uint64, error) { return held.Lock(ctx) })
	steps.Want(walk, "IsLocked", true, func() (bool, error) { return held.IsLocked(ctx, lock.IfVersion(version)) })
	steps.Want(walk, "Unlock", true, func() (bool, error) { return held.Unlock(ctx) })
	steps.Want(walk, "IsLocked", false, func() (bool, error) { return held.IsLocked(ctx, lock.IfVersion(version)) })
	steps.Do(walk, "Close", func() (any, error) { return nil, held.Close(ctx) })
}
