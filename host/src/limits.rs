//! Every limit in one place, each with its reason. Knows no other room.

use std::time::Duration;

/// Longest value in the text of a difference, in characters: a log line stays readable when a whole list differs.
pub const DIFFERENCE_CHARS_MAX: usize = 160;
const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

// ---- What a plugin's bytes may be: compiling is not bounded by fuel, so its input is.

/// Most bytes of a component: ten times what the larger guests in Rust take, and a fraction of a second to compile.
pub const PLUGIN_BYTES_MAX: usize = 8 * MIB;
/// Most bytes of a component once compressed: what the API server takes as a ConfigMap.
pub const PLUGIN_PACKED_BYTES_MAX: usize = MIB;
/// Most functions of a component: a guest in Rust has some hundreds, one that carries an interpreter some thousands.
pub const PLUGIN_FUNCTIONS_MAX: usize = 20_000;
/// Most bytes of one function: the compiler's work can grow faster than the function.
pub const PLUGIN_FUNCTION_BYTES_MAX: usize = 256 * KIB;
/// Most core modules within a component: one, and the small ones that adapters add.
pub const PLUGIN_MODULES_MAX: usize = 8;

// ---- What one call of a plugin may use.

/// Most calls at a time, and slots in the pool of instances: more than the cores of a controller's pod; further calls wait.
pub const CALLS_MAX: usize = 8;
/// Most memory of one call: a plan of 1024 clusters of nine members takes about half of it.
pub const CALL_MEMORY_BYTES_MAX: usize = 128 * MIB;
/// Memory that stays mapped in a free slot, so that the next call meets no page fault: the heap of a common guest.
pub const CALL_MEMORY_KEPT_BYTES: usize = 2 * MIB;
/// Most elements of a guest's tables: one for each function that is called by pointer.
pub const CALL_TABLE_ELEMENTS_MAX: usize = 20_000;
/// Most bytes of a guest's native stack.
pub const CALL_STACK_BYTES_MAX: usize = 512 * KIB;
/// Fuel to say what the plugin is: ten times what a guest with a long schema uses. Loading is not to be slowed by one plugin.
pub const DESCRIBE_FUEL: u64 = 50_000_000;
/// Fuel to check a class's spec: a user waits for the answer.
pub const VALIDATE_FUEL: u64 = 50_000_000;
/// Fuel of every plan: a hundred times what a plan of 15 manifests uses; an endless loop ends within 15 ms.
pub const PLAN_FUEL: u64 = 200_000_000;
/// Fuel that each partition adds: ten times what a cluster of its own uses.
pub const PLAN_FUEL_PER_PARTITION: u64 = 5_000_000;
/// Fuel that each observed object adds: a plan may look at every one of them.
pub const PLAN_FUEL_PER_OBSERVED: u64 = 500_000;

// ---- What a plugin may say that it is.

/// Most characters of a plugin's name: `atomix-plugin-<name>` stays a DNS label.
pub const PLUGIN_NAME_CHARS_MAX: usize = 40;
/// Most characters of a plugin's version: the value of a label.
pub const PLUGIN_VERSION_CHARS_MAX: usize = 63;
/// Most class kinds of a plugin; each is a definition in the cluster.
pub const CLASS_KINDS_MAX: usize = 16;
/// Most kinds that a plugin emits and watches together; each is a watch.
pub const OBJECT_KINDS_MAX: usize = 32;
/// Most versions, short names or columns of one class kind.
pub const CLASS_KIND_LIST_MAX: usize = 16;
/// Most pointers that are read of one kind.
pub const POINTERS_MAX: usize = 64;
/// Most characters of a pointer, a JSON path or another short text of a descriptor.
pub const DESCRIPTOR_TEXT_CHARS_MAX: usize = 253;
/// Most bytes of a class's schema: definitions must stay far under the API server's request limit.
pub const SCHEMA_BYTES_MAX: usize = 256 * KIB;

// ---- What a plugin may say of groups of the old gRPC API.

/// Most protocols of a plugin: one for each of its class kinds.
pub const PROTOCOLS_MAX: usize = CLASS_KINDS_MAX;
/// Most members of each partition of a group: far more than agree with each other in any storage.
pub const PARTITION_SIZE_MAX: u32 = 1024;
/// Most bytes of a group's message: it stands in the status of each database, and a configuration has some dozens.
pub const GROUP_BYTES_MAX: usize = 4 * KIB;

// ---- What a plan may hold.

/// Most objects of a plan: eight for each of 1024 clusters.
pub const PLAN_OBJECTS_MAX: usize = 8192;
/// Most bytes of one manifest: under the API server's limit of a request, with room for what is stamped on.
pub const PLAN_OBJECT_BYTES_MAX: usize = 512 * KIB;
/// Most bytes of a whole plan, and of whatever else a call returns: twice what the largest database needs.
pub const PLAN_BYTES_MAX: usize = 16 * MIB;
/// Deepest nesting of a manifest: a pod template is about 12 deep.
pub const JSON_DEPTH_MAX: usize = 32;
/// Most characters of an object's name, as Kubernetes has it.
pub const NAME_CHARS_MAX: usize = 253;
/// Most characters of a logical id, a reason's code, or a field's path.
pub const WORD_CHARS_MAX: usize = 253;
/// Most characters of a message: what a condition's message may hold, with room for what is put around it.
pub const MESSAGE_CHARS_MAX: usize = 4096;
/// Most endpoints of one partition: the members of its cluster, and some.
pub const ENDPOINTS_MAX: usize = 32;
/// Most changes not taken, notes, or field errors in one answer: nobody reads more.
pub const REMARKS_MAX: usize = 64;

// ---- How often things are tried and written, and how much waits.

/// Longest pause between two tries of something that may heal by itself (a right that is not there yet, a name that is taken):
/// nothing wakes us when these change, and once a minute costs the API nothing.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);
/// First pause before something is tried again.
pub const RETRY_AFTER_MIN: Duration = Duration::from_millis(500);
/// A Database's status is written no more often than this: pods become ready in bursts, and a person cannot read faster.
pub const STATUS_PAUSE: Duration = Duration::from_millis(250);
/// A status in which only counts or wording differ waits this long for a better one.
pub const STATUS_WORDING_PAUSE: Duration = Duration::from_millis(1000);
/// A partition's status in which only wording differs waits this long, and so does the first word on one that just starts.
pub const PARTITION_WORDING_PAUSE: Duration = Duration::from_secs(5);
/// Databases worked on at a time. Planning takes under a millisecond of processor; the rest is waiting for the API server.
pub const RECONCILES_AT_ONCE: u16 = 16;
/// Changes that wait between the watches and the controller; when it is full the watches read no further.
pub const CHANGES_WAITING: usize = 4096;
/// Longest message in a condition: the API's own limit for `metav1.Condition`.
pub const CONDITION_MESSAGE_MAX: usize = 32_768;
/// Longest note of an Event: the API's own limit.
pub const EVENT_NOTE_MAX: usize = 1024;
/// What has been ready for less than this still starts: a member that is not ready yet is no loss.
pub const START_GRACE: Duration = Duration::from_secs(5);
/// How long a watch that is refused counts as one that starts: the rights of a new plugin reach us a moment after its role.
pub const RIGHTS_GRACE: Duration = Duration::from_secs(5);
/// Changes of ConfigMaps that bring plugins, waiting to be loaded; each holds all of them, so one is enough.
pub const SOURCES_WAITING: usize = 1;
/// StoragePlugins are written no more often than this: their counts change with every database.
pub const REPORT_PAUSE: Duration = Duration::from_millis(500);
/// Longest pause before a plugin that fails for a database is called again for the same request.
pub const PLUGIN_RETRY_AFTER_MAX: Duration = Duration::from_secs(300);

// ---- The conversion webhook.

/// Most bytes of one review: five objects as large as an API server takes (3 MiB), and it sends one at a time, or small ones.
pub const REVIEW_BYTES_MAX: usize = 16 * MIB;
/// Most connections to the webhook at a time: an API server keeps a handful open.
pub const WEBHOOK_CONNECTIONS_MAX: usize = 128;
/// Longest TLS handshake, in seconds: a client that says nothing must not hold a place.
pub const HANDSHAKE_SECS_MAX: u64 = 5;
/// How long the webhook's certificate authority is good for, in days: a change of it tears down all watches of databases.
pub const AUTHORITY_DAYS: i64 = 3650;
/// A certificate authority with less than this left is replaced, in days.
pub const AUTHORITY_DAYS_LEFT_MIN: i64 = 90;
/// How long a certificate under it is good for, in hours: a stolen one is of no use for long.
pub const CERTIFICATE_HOURS: i64 = 48;
/// Age at which a certificate is replaced, in hours: half its life, so that a clock may be a day off.
pub const CERTIFICATE_AGE_HOURS_MAX: i64 = 24;
/// Longest wait between two tries to reach the API server, in seconds: a person who mends what is wrong should not wait longer.
pub const WEBHOOK_RETRY_SECS_MAX: u64 = 30;

// ---- Who leads, and which replicas there are.

/// How long a Lease lasts that is not renewed: how long nobody reconciles after the leader died. Shorter, and an API server that
/// restarts would cost the leader its place.
pub const LEASE_LASTS: Duration = Duration::from_secs(15);
/// Longest promise of a holder that is believed, so that a Lease edited by mistake does not stop all work.
pub const LEASE_LASTS_MAX: Duration = Duration::from_secs(60);
/// How often a Lease is renewed: one renewal may fail, and the next still comes in time.
pub const LEASE_RENEWED_EVERY: Duration = Duration::from_secs(5);
/// How long before others may take the Lease the leader begins no write any more: what it began by then has arrived.
pub const LEASE_MARGIN: Duration = Duration::from_secs(3);
/// Pause before a Lease that could not be written is tried again: several tries fit between a failed renewal and the end.
pub const LEASE_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// How long one request for a Lease may take: a renewal that hangs leaves time for another before the end.
pub const LEASE_REQUEST_WITHIN: Duration = Duration::from_secs(3);
/// How long running passes may go on when the leader stops: most take milliseconds, and the next leader waits.
pub const LEADER_LEAVES_WITHIN: Duration = Duration::from_secs(1);
/// Pause of a new leader before its first pass: what the one before wrote last is still on its way to our caches.
pub const TAKE_OVER_PAUSE: Duration = Duration::from_millis(250);
/// How long the Lease of a dead replica is kept, and its end remembered: whoever clears up after it has long done so.
pub const REPLICA_KEPT: Duration = Duration::from_secs(60 * 60);
/// Longest identity of a replica, in characters: with the controller's name before it, it is the name of a Lease.
pub const IDENTITY_CHARS_MAX: usize = 180;
/// Requests of the controller that wait for their turn: more than passes run at a time.
pub const REQUESTS_WAITING: usize = 1024;

// ---- The gRPC API.

/// Most bytes of a request: names and a protocol's configuration; the largest sensible one has a few kilobytes.
pub const GRPC_REQUEST_BYTES_MAX: usize = 64 * KIB;
/// Most calls that go on at a time in one replica, streams included, unless a flag says otherwise: a stream costs about 10 kB.
pub const GRPC_CALLS_MAX: usize = 20_000;
/// Pause after a connection could not be accepted: file descriptors have run out, as a rule, and trying at once would only spin.
pub const GRPC_ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Most TLS handshakes of clients that go on at a time.
pub const GRPC_HANDSHAKES_MAX: usize = 128;
/// How often a connection without traffic is asked whether its other end is there, and how long an answer may take: a client that
/// has crashed is noticed within both.
pub const GRPC_KEEPALIVE: Duration = Duration::from_secs(8);
/// See [`GRPC_KEEPALIVE`].
pub const GRPC_KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(7);
/// How long a call waits for the view to be filled after a start, before it is told to go elsewhere.
pub const GRPC_START_WAIT: Duration = Duration::from_secs(5);
/// How long calls may take to end once the controller was told to stop.
pub const GRPC_DRAIN: Duration = Duration::from_secs(5);
/// Longest name or scope that a client may give, in bytes: it stands in an object, and in a label's reach of nobody.
pub const CLIENT_NAME_BYTES_MAX: usize = 1024;
/// Most candidates of one election: they all stand in one object.
pub const CANDIDATES_MAX: usize = 1000;
/// How long members and candidates of a replica that is gone stay: their clients come back through another one within it.
pub const REJOIN_GRACE: Duration = Duration::from_secs(10);
/// How often it is looked whether somebody's grace is over; costs no request.
pub const SWEEP_PAUSE: Duration = Duration::from_secs(1);
/// How often a write that met another one is tried again before the client is told so.
pub const CONFLICT_TRIES: usize = 10;
/// Most groups that clients may have in one namespace, unless a flag says otherwise.
pub const GROUPS_MAX: usize = 100;
/// Most primitives that clients may have in one namespace, unless a flag says otherwise: each is a small object.
pub const PRIMITIVES_MAX: usize = 10_000;
/// How long the answer to a new group waits for it to be listed.
pub const GROUP_LISTED_WAIT: Duration = Duration::from_secs(5);
