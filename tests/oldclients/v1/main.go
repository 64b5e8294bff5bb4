// Old-client-v1 walks through what a program of the first generation does, with the Atomix Go client v0.1.0 as it was published: New,
// GetGroup, GetLock, Lock, Unlock, and the same with GetDatabase; with -groups instead the same with a group that it creates, finds among
// all and deletes. It knows the controller's address, and no other.
//
//	old-client-v1 [-within 1m] [-groups] ADDRESS NAMESPACE NAME
package main

import (
	"context"
	"flag"

	"github.com/atomix/go-client/pkg/client"
	"github.com/atomix/go-client/pkg/client/lock"
	"github.com/gogo/protobuf/types"
	"google.golang.org/grpc/status"

	"steps"
)

func main() {
	groups := flag.Bool("groups", false, "create, use and delete the group NAME-group")
	ctx, walk, to := steps.Begin()
	atomix := steps.Do(walk, "New", func() (*client.Client, error) {
		return client.New(to.Address, client.WithNamespace(to.Namespace))
	})
	if *groups {
		own(ctx, walk, atomix, to.Name+"-group")
		return
	}
	group := steps.Do(walk, "GetGroup", func() (*client.PartitionGroup, error) { return atomix.GetGroup(ctx, to.Name) })
	turn(ctx, walk, group)
	database := steps.Do(walk, "GetDatabase", func() (*client.Database, error) { return atomix.GetDatabase(ctx, to.Name) })
	turn(ctx, walk, database)
}

// own creates a group, twice as old programs did that may have been there before, uses it and deletes it.
func own(ctx context.Context, walk *steps.Walk, atomix *client.Client, name string) {
	create := func(partitions int) (*client.PartitionGroup, error) {
		return atomix.CreateGroup(ctx, name, partitions, 1, &raft{ElectionTimeout: &types.Duration{Seconds: 2}})
	}
	listed := func() (bool, error) {
		groups, err := atomix.GetGroups(ctx)
		for _, group := range groups {
			if group.Name == name && group.Partitions == 1 && group.PartitionSize == 1 {
				return true, err
			}
		}
		return false, err
	}
	steps.Want(walk, "GetGroups", false, listed)
	group := steps.Do(walk, "CreateGroup", func() (*client.PartitionGroup, error) { return create(1) })
	turn(ctx, walk, group)
	steps.Want(walk, "GetGroups", true, listed)
	steps.Do(walk, "CreateGroup", func() (*client.PartitionGroup, error) { return create(1) })
	steps.Want(walk, "CreateGroup of another spec", "AlreadyExists", func() (string, error) {
		_, err := create(2)
		return status.Code(err).String(), nil
	})
	steps.Do(walk, "DeleteGroup", func() (any, error) { return nil, atomix.DeleteGroup(ctx, name) })
	steps.Want(walk, "GetGroups", false, listed)
	steps.Want(walk, "DeleteGroup again", "NotFound", func() (string, error) {
		return status.Code(atomix.DeleteGroup(ctx, name)).String(), nil
	})
}

// raft is the protocol of the group. Programs had it from a module of the Raft node, which cannot be had any more: a message of its name,
// with the one field that is said here.
type raft struct {
	ElectionTimeout *types.Duration `protobuf:"bytes,1,opt,name=election_timeout"`
}

func (message *raft) Reset()          { *message = raft{} }
func (*raft) String() string          { return "" }
func (*raft) ProtoMessage()           {}
func (*raft) XXX_MessageName() string { return "atomix.raft.config.ProtocolConfig" }

// turn takes a lock and gives it back.
func turn(ctx context.Context, walk *steps.Walk, storage lock.Client) {
	held := steps.Do(walk, "GetLock", func() (lock.Lock, error) { return storage.GetLock(ctx, "old-client") })
	version := steps.Do(walk, "Lock", func() (uint64, error) { return held.Lock(ctx) })
	steps.Want(walk, "IsLocked", true, func() (bool, error) { return held.IsLocked(ctx, lock.IfVersion(version)) })
	steps.Want(walk, "Unlock", true, func() (bool, error) { return held.Unlock(ctx) })
	steps.Want(walk, "IsLocked", false, func() (bool, error) { return held.IsLocked(ctx, lock.IfVersion(version)) })
	steps.Do(walk, "Close", func() (any, error) { return nil, held.Close(ctx) })
}
