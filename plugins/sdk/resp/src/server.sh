#!/bin/sh
# Starts a Valkey or Redis server on the data that its volume holds, and answers the probes of its pod. Runs in any sh (dash, busybox).
#
# What the server reads stands in the folder of this script: `facts` (variables), `primary.conf`, `replica.conf`, and `first-start` while
# there cannot be data. What it keeps on the volume beside the data stands in `.atomix` there:
#
#   form      the form of the data (kind, folder, file, databases), and who wrote them, as of the last start
#   id        of a primary: a word that is made with the data; a primary that has lost its volume has another
#   follows   of a replica: the id of the primary whose data it has
#   work      a conversion that is not finished, and `commit` in it once what it wrote has been read back
set -u
folder=${0%/*}
. "$folder/facts"
mine=$data/.atomix
work=$mine/work
sock=$run/atomix.sock
host=${HOSTNAME:-$(cat /etc/hostname)}
role=replica
[ "$host" != "${primary%%.*}" ] || role=primary
# A pod whose server has started once keeps the configuration that it started with: the next one is for the next pod.
conf=$run/$role.conf
[ -e "$conf" ] || conf=$folder/$role.conf
pid=

# Exit codes, which the plugin knows.
other_password=77 refused=78 undecided=79

# --- What is said ---

# Ends with a code, a reason and a sentence, which the kubelet puts into the pod's status.
end() {
    printf '%s: %s' "$2" "$3" >"$last_words"
    echo "$2: $3" >&2
    [ -z "$pid" ] || stop
    [ -e "$work/commit" ] || rm -rf "$work"
    exit "$1"
}

# The same for what may be decided while this waits. It ends so that the status has it, and again only when it knows more (a number, the
# third word) than it said: a container that keeps ending is started later and later, and nobody can decide in it meanwhile.
wait_for_word() {
    said=$(cat "$run/said" 2>/dev/null)
    if [ "$3" -gt "${said:-0}" ]; then
        echo "$3" >"$run/said"
        end $undecided "$1" "$2"
    fi
    progress "waits: $2"
    sleep 2
}

# What goes on before the server starts: the startup probe shows it.
progress() {
    [ "$(cat "$run/progress" 2>/dev/null)" = "$*" ] || echo "$*"
    echo "$*" >"$run/progress"
}

pause() {
    sleep 0.2 2>/dev/null || sleep 1
}

# --- A server that nobody but this script reaches ---

# Starts one in a folder, with the configuration of the real one but for lines on standard input; returns when it has read its data. Not
# in a pipeline, whose parts are shells of their own.
serve() {
    rm -f "$sock"
    {
        grep -Eiv '^[[:space:]]*(rename-command|replicaof|slaveof|user|save|logfile)[[:space:]]' "$conf"
        printf '%s\n' 'port 0' "unixsocket $sock" "dir $1" 'save ""' 'maxmemory 0' 'auto-aof-rewrite-percentage 0'
        [ "${version%%.*}" -lt 7 ] || echo 'enable-debug-command yes'
        cat
    } >"$run/temporary.conf"
    "$server-server" "$run/temporary.conf" >"$run/log" 2>&1 &
    pid=$!
    while kill -0 "$pid" 2>/dev/null; do
        case "$(ask ping)" in
        PONG) return 0 ;;
        LOADING*) progress "reads the data on the volume: $(info loading_loaded_perc)%" ;;
        esac
        pause
    done
    wait "$pid"
    ended=$?
    pid=
    if [ $ended = 137 ]; then
        said="$server-server was killed while it read its configuration or the data: the container may need more memory"
        printf '%s' "$said" >"$last_words"
        echo "$said" >&2
        exit 137
    fi
    return 1
}

ask() {
    "$server-cli" -s "$sock" "$@" 2>&1
}

# A field of what it says of itself.
info() {
    ask info | tr -d '\r' | sed -n "s/^$1://p"
}

stop() {
    [ "$(ask shutdown nosave)" = "" ] || kill "$pid" 2>/dev/null
    wait "$pid"
    pid=
    : # whatever it ended with
}

# The end of its log, which says why it ended.
log() {
    grep -v '^[[:space:]]*$' "$run/log" | tail -n "${1:-2}" | sed 's/^[0-9]*:[A-Z] [0-9A-Za-z:. ]* [#*.-] //' | tr '\n' ' ' | sed 's/ $//'
}

# Numbers of keys by database: lines of name, keys, and how many of these will expire.
counted() {
    tr -d '\r' | sed -n 's/^\(db[0-9]*\):keys=\([0-9]*\),expires=\([0-9]*\).*/\1 \2 \3/p'
}

# The same without keys that expire, which may have done so since.
lasting() {
    counted | while read -r db keys expires; do
        [ "$keys" -le "$expires" ] || echo "$db $((keys - expires))"
    done
}

# What must be the same once all has been converted: keys by database, and a digest of them all if none expires.
contents() {
    all=$(ask info keyspace)
    echo "$all" | lasting
    case $all in
    *expires=[1-9]* | *subexpiry=[1-9]*) ;;
    *) ask debug digest | grep -Ex '[0-9a-f]{40}' ;;
    esac
}

total() {
    sum=0
    while read -r _ keys _; do sum=$((sum + keys)); done
    echo "$sum"
}

# --- The form of the data ---

# A text as the configuration quotes it.
quoted() {
    printf '"%s"' "$(printf '%s' "$1" | sed 's/[\\"]/\\&/g')"
}

# Which server this is: `product` and `version`.
identify() {
    said=$("$server-server" --version 2>&1) || end $refused NoServer "the image has no $server-server: $said"
    product=${said%% *}
    version=${said#*v=}
    version=${version%% *}
}

# The form that the configuration asks for, as the server itself understands it: `want`, `want_dir`, `want_file`, `databases`, `kept`.
want() {
    rm -rf "$run/empty"
    mkdir -p "$run/empty"
    echo 'appendonly no' >"$run/more.conf"
    serve "$run/empty" <"$run/more.conf" || end $refused ConfigRefused "$product $version does not take its configuration: $(log 2)"
    value() { ask config get "$1" | sed -n 2p; }
    want_dir=$(value appenddirname)
    databases=$(value databases)
    kept=yes
    if [ "$(sed -n 's/^appendonly //p' "$conf" | tail -n 1)" = yes ]; then
        want=aof want_file=$(value appendfilename)
        [ -n "$want_dir" ] || want=single
    else
        want=rdb want_dir='' want_file=$(value dbfilename)
        ! grep -q '^save ""$' "$conf" || kept=no
    fi
    stop
}

# Reads what stood in `form` or `commit`: `was`, `was_dir`, `was_file`, `was_databases`, `was_product`, `was_version`, `was_kept`, `old`.
recall() {
    was='' was_dir='' was_file='' was_databases='' was_product='' was_version='' was_kept='' old=''
    while IFS=' ' read -r field value; do
        case $field in
        kind) was=$value ;; dir) was_dir=$value ;; file) was_file=$value ;; databases) was_databases=$value ;;
        product) was_product=$value ;; version) was_version=$value ;; kept) was_kept=$value ;; old) old=$value ;;
        esac
    done <"$1"
}

remember() { # kept
    printf '%s\n' "kind $want" "dir $want_dir" "file $want_file" "databases $databases" "product $product" "version $version" \
        "kept $1"
}

# Says what a file is by how it begins: a snapshot, or an append-only file (which may begin with a snapshot that says so).
kind_of() {
    case "$(head -c 400 "$1" | od -An -v -tx1 | tr -d ' \n')" in
    5245444953*616f662d62617365c001* | 5245444953*616f662d707265616d626c65c001*) echo single ;;
    56414c4b4559*616f662d62617365c001*) echo single ;;
    5245444953* | 56414c4b4559*) echo rdb ;;
    2a3[0-9]* | 2354533a*) echo single ;;
    esac
}

is_there() {
    case $1 in
    aof) [ -e "$data/$2/$3.manifest" ] ;;
    single | rdb) [ -f "$data/$3" ] && [ "$(kind_of "$data/$3")" = "$1" ] ;;
    *) false ;;
    esac
}

# The form that the data have: `has`, `has_dir`, `has_file`. What the last start left; else what is wanted, if it is there; else the newest.
look() {
    has=none has_dir='' has_file=''
    [ ! -e "$mine/form" ] || recall "$mine/form"
    if is_there "$was" "$was_dir" "$was_file"; then
        has=$was has_dir=$was_dir has_file=$was_file
        return
    elif is_there "$want" "$want_dir" "$want_file"; then
        has=$want has_dir=$want_dir has_file=$want_file
        return
    fi
    newest=
    for path in "$data"/*/*.manifest "$data"/.[!.]*/*.manifest "$data"/* "$data"/.[!.]*; do
        case $path in
        "$mine"/* | */temp-*) continue ;;
        *.manifest)
            kind=aof dir=${path%/*}
            [ -f "$path" ] && [ "${dir%/*}" = "$data" ] || continue
            dir=${dir##*/} file=${path##*/} file=${file%.manifest}
            ;;
        *)
            [ -f "$path" ] || continue
            kind=$(kind_of "$path") dir='' file=${path##*/}
            [ -n "$kind" ] || continue
            ;;
        esac
        if [ -z "$newest" ] || [ "$path" -nt "$newest" ]; then
            newest=$path has=$kind has_dir=$dir has_file=$file
        fi
    done
}

form() { # kind, folder, file
    case $1 in
    aof) echo "an append-only file ($2/$3.manifest)" ;;
    single) echo "an append-only file of one part ($3)" ;;
    rdb) echo "a snapshot ($3)" ;;
    esac
}

is_older() { # version, than
    oldest=$(printf '%s\n%s\n' "$1" "$2" | sort -t . -k 1,1n -k 2,2n -k 3,3n | head -n 1)
    [ "$1" != "$2" ] && [ "$oldest" = "$1" ]
}

# --- From one form to another ---

# The configuration that finds the data in the form that is wanted.
wanted() {
    case $want in
    aof) printf '%s\n' 'appendonly yes' "appenddirname $(quoted "$want_dir")" "appendfilename $(quoted "$want_file")" ;;
    single) printf '%s\n' 'appendonly yes' "appendfilename $(quoted "$want_file")" ;;
    rdb) printf '%s\n' 'appendonly no' "dbfilename $(quoted "$want_file")" ;;
    esac
}

# Reads what there is, by links, so that nothing of it changes: with so many databases.
read_data() {
    rm -rf "$work"
    mkdir -p "$work/old" "$work/new"
    ln -s "$data/${has_dir:-$has_file}" "$work/old/${has_dir:-$has_file}"
    {
        wanted | grep -v '^appendonly'
        case $has in
        aof) printf '%s\n' 'appendonly yes' "appenddirname $(quoted "$has_dir")" "appendfilename $(quoted "$has_file")" ;;
        single) printf '%s\n' 'appendonly yes' "appendfilename $(quoted "$has_file")" ;;
        rdb) printf '%s\n' 'appendonly no' "dbfilename $(quoted "$has_file")" ;;
        esac
        [ "$has" = rdb ] || echo 'dbfilename atomix.rdb'
        echo "databases $1"
    } >"$run/more.conf"
    serve "$work/old" <"$run/more.conf"
}

# Converts the data if they have not the form that is wanted; else says whether this server can read them.
convert() {
    writer="another server"
    [ -z "$was_product" ] || writer="$was_product $was_version"
    what="data written by $writer as $(form "$has" "$has_dir" "$has_file")"
    unreadable="$what cannot be read by $product $version"
    back="set the class back, and the server comes back with its data"
    progress "reads $what"
    room=$databases
    [ "${was_databases:-1024}" -le "$room" ] || room=${was_databases:-1024}
    [ "$has" != aof ] || [ "${version%%.*}" -ge 7 ] || end $refused DataNotConverted "$unreadable; $back"
    read_data "$room" || end $refused DataNotConverted "$unreadable ($(log 2)); $back"
    before=$(contents)
    for db in $(ask info keyspace | counted | sed 's/^db\([0-9]*\) .*/\1/'); do
        [ "$db" -lt "$databases" ] || end $refused DataNotConverted \
            "database $db has keys, and the class's config asks for $databases databases; set databases to at least $((db + 1))"
    done
    # A snapshot says of each key in which database it is; an append-only file may name databases that are empty by now.
    if [ "$has $has_dir $has_file" = "$want $want_dir $want_file" ] && { [ "$has" = rdb ] || [ "$room" = "$databases" ]; }; then
        stop
        rm -rf "$work"
        return
    fi
    progress "converts $what to $(form "$want" "$want_dir" "$want_file")"
    failed="could not write $(form "$want" "$want_dir" "$want_file")"
    old=$has_dir
    [ -n "$old" ] || old=$has_file
    new=$want_dir
    [ -n "$new" ] || new=$want_file
    case $has-$want in
    rdb-rdb) stop ;;
    *-rdb)
        said=$(ask save)
        [ "$said" = OK ] || end $refused DataNotConverted "$failed: $said $(log 1)"
        stop
        mv "$work/old/atomix.rdb" "$work/new/$want_file"
        ;;
    rdb-*)
        append
        stop
        mv "$work/old/$new" "$work/new/$new"
        ;;
    *)
        said=$(ask save)
        [ "$said" = OK ] || end $refused DataNotConverted "$failed: $said $(log 1)"
        stop
        mv "$work/old/atomix.rdb" "$work/new/atomix.rdb"
        { wanted && printf '%s\n' 'appendonly no' 'dbfilename atomix.rdb'; } >"$run/more.conf"
        serve "$work/new" <"$run/more.conf" ||
            end $refused DataNotConverted "$failed: $(log 2)"
        append
        stop
        rm -f "$work/new/atomix.rdb"
        ;;
    esac
    [ "$has-$want" = rdb-rdb ] || read_back
    commit "${was_kept:-$kept}" # what was stale before is so in another form too
    has=$want has_dir=$want_dir has_file=$want_file
}

# Lets the server write an append-only file of what it holds.
append() {
    said=$(ask config set appendonly yes)
    [ "$said" = OK ] || end $refused DataNotConverted "$failed: $said"
    while [ "$(info aof_rewrite_in_progress)$(info aof_rewrite_scheduled)" != 00 ]; do
        kill -0 "$pid" 2>/dev/null || end $refused DataNotConverted "$failed: $(log 2)"
        pause
    done
    [ "$(info aof_last_bgrewrite_status)" = ok ] || end $refused DataNotConverted "$failed: $(log 2)"
}

# Reads what was written, and compares it with what was there `before`.
read_back() {
    progress "reads back $(form "$want" "$want_dir" "$want_file")"
    wanted >"$run/more.conf"
    serve "$work/new" <"$run/more.conf" || end $refused DataNotConverted "$failed: $(log 2)"
    after=$(contents)
    if [ "$before" != "$after" ]; then
        # Keys that expire may be gone, and with the last of them the digest comes to be.
        [ "$(echo "$before" | grep '^db')" = "$(echo "$after" | grep '^db')" ] && [ "$(echo "$before" | grep -Ecx '[0-9a-f]{40}')" = 0 ] ||
            end $refused DataNotConverted "$failed: $(echo "$before" | tr '\n' ' ')became $(echo "$after" | tr '\n' ' ')"
    fi
    stop
}

# Puts it in the place of `old`: what stands in `commit` is finished whatever happens. Told whether the data are those of now.
commit() { # kept
    { remember "$1"; echo "old $old"; } >"$work/commit.new"
    sync
    mv "$work/commit.new" "$work/commit"
    finish
    progress "has converted the data, and read them back"
}

finish() {
    [ -e "$work/commit" ] || return 0
    recall "$work/commit"
    name=$was_dir
    [ -n "$name" ] || name=$was_file
    if [ -e "$work/new/$name" ]; then
        mkdir -p "$work/replaced"
        [ -z "$old" ] || [ ! -e "$data/$old" ] || mv "$data/$old" "$work/replaced/"
        [ ! -e "$data/$name" ] || mv "$data/$name" "$work/replaced/$name.2"
        mv "$work/new/$name" "$data/$name"
    elif [ "$was" = rdb ] && [ -n "$old" ] && [ -f "$data/$old" ] && [ "$(kind_of "$data/$old")" = rdb ]; then
        [ "$old" = "$name" ] || mv -f "$data/$old" "$data/$name"
    fi
    sync
    mv "$work/commit" "$mine/form"
    rm -rf "$work"
}

# --- Other servers of the partition ---

# Sends the lines of standard input, after the password, to a server, and prints its answers.
talk() {
    { cat "$run/auth" 2>/dev/null; cat; } | timeout 5 "$server-cli" -h "$1" -p "$port" 2>&1 | tr -d '\r'
}

# The same to the server of this pod.
here() {
    { cat "$run/auth" 2>/dev/null; cat; } | timeout 5 "$server-cli" -s "$run/$host".of-*.sock 2>&1 | tr -d '\r'
}

# Asks a server: `answer` is yes, no, loading or password; then `keys`, `offset`, `id` and `called`, its pod's name, are what it says.
question() {
    heard=$(printf 'INFO\nCONFIG GET unixsocket\n' | talk "$1")
    answer=no keys=0 offset=0 id='' called=${1%%.*}
    [ -z "${all:-}" ] || called=$1
    case $heard in
    *role:*)
        answer=yes
        keys=$(echo "$heard" | counted | total)
        offset=$(echo "$heard" | sed -n 's/^slave_repl_offset:\(-*[0-9]*\)$/\1/p' | tail -n 1)
        [ -n "$offset" ] || offset=$(echo "$heard" | sed -n 's/^master_repl_offset:\(-*[0-9]*\)$/\1/p' | tail -n 1)
        id=$(echo "$heard" | sed -n 's/.*\.of-\([0-9a-f]*\)\.sock$/\1/p' | tail -n 1)
        [ -z "${all:-}" ] || called=$(echo "$heard" | sed -n 's|.*/\([^/]*\)\.of-[0-9a-f]*\.sock$|\1|p' | tail -n 1)
        [ -n "$called" ] || called=$1
        case $heard in *loading:1*) answer=loading ;; esac
        ;;
    esac
    # Also of one that asks for no password, which no replica with a password can follow.
    ! echo "$heard" | grep -Eq '^(NOAUTH|WRONGPASS|ERR AUTH|ERR invalid password)' || answer=password
}

# The replicas that there should be, a line each.
followers() {
    . "$folder/facts"
    if [ -n "${all:-}" ]; then
        own=$(getent ahosts "$host" | sed 's/ .*//')
        for one in $(getent ahosts "$all" | sed 's/ .*//' | sort -u); do
            echo "$own" | grep -Fqx "$one" || echo "$one"
        done
    else
        for one in $replicas; do echo "$one"; done
    fi
}

# What a person decided in this pod, else what the class says.
word() {
    . "$folder/facts"
    cat "$run/word" 2>/dev/null || echo "$without_data"
}

# Holds a primary whose volume has no data, while a replica has some or may have some, until it is decided where it gets its own.
before_it_serves_without_data() {
    tries=0
    lacks="has no data"
    [ "$has" = none ] || lacks="has kept nothing since its class keeps nothing"
    while :; do
        . "$folder/facts"
        [ ! -e "$folder/first-start" ] || return 0
        found='' unknown='' best='' best_keys=0 best_offset=0 best_id='' asked=0 known=1
        for one in $(followers); do
            asked=$((asked + 1))
            question "$one"
            name=$called
            case $answer in
            yes)
                [ "$keys" != 0 ] || continue
                found="$found${found:+, }$name has $keys keys (offset $offset)" known=$((known + 1))
                if [ "$keys" -gt "$best_keys" ] || { [ "$keys" = "$best_keys" ] && [ "$offset" -gt "$best_offset" ]; }; then
                    best=$one best_keys=$keys best_offset=$offset best_id=$id
                fi
                ;;
            loading) unknown="$unknown${unknown:+, }$name reads its data" ;;
            password) unknown="$unknown${unknown:+, }$name has another password" ;;
            no) unknown="$unknown${unknown:+, }$name does not answer" ;;
            esac
        done
        [ "$asked" -ge "$replica_count" ] || unknown="$unknown${unknown:+, }$((replica_count - asked)) of $replica_count replicas cannot be found"
        case "$(word)" in
        StartEmpty) return 0 ;;
        CopyFromReplica)
            if [ -n "$best" ] && { [ -z "$unknown" ] || [ "$tries" -ge 30 ]; }; then
                copy "$best"
                return 0
            fi
            ;;
        esac
        [ -n "$found$unknown" ] || return 0
        tries=$((tries + 1))
        if [ -n "$found" ] && { [ -z "$unknown" ] || [ "$tries" -ge 5 ] || [ -e "$run/said" ]; }; then
            wait_for_word PrimaryWithoutData "$host $lacks, and $found${unknown:+; $unknown}. To decide: kubectl exec $host -- sh $0 \
decide CopyFromReplica (or StartEmpty, after which replicas lose theirs), or spec.$field of the class" "$known"
        elif [ -z "$found" ] && { [ "$tries" -ge 10 ] || [ -e "$run/said" ]; }; then
            wait_for_word PrimaryWithoutData "$host $lacks, and whether a replica has some is not known: $unknown. It waits. To go \
without: kubectl exec $host -- sh $0 decide StartEmpty" "$known"
        else
            progress "$lacks, and asks the replicas: $unknown"
            sleep 1
        fi
    done
}

# Has a replica take no writes and follow nobody.
leave_alone() {
    # A replica without a primary gives its data to nobody. As a primary it wants more replicas than there can be, and so takes no writes.
    said=$(printf 'CONFIG SET min-replicas-to-write 99\nCONFIG SET min-replicas-max-lag 10\nREPLICAOF NO ONE\n' | talk "$1")
    case $said in *ERR* | *NOPERM*) end $undecided PrimaryWithoutData "$failed: $(echo "$said" | tr '\n' ' ')" ;; esac
}

# Fills the volume of this primary from a replica, which takes no writes meanwhile.
copy() {
    from=$1
    failed="could not copy from ${from%%.*}"
    progress "copies the data of ${from%%.*}"
    rm -rf "$work"
    mkdir -p "$work/new"
    leave_alone "$from"
    expected=$(printf 'INFO keyspace\n' | talk "$from" | lasting)
    { wanted && echo "replicaof $from $port" && { grep '^masterauth' "$run/password.conf" 2>/dev/null || :; }; } >"$run/more.conf"
    serve "$work/new" <"$run/more.conf" ||
        end $undecided PrimaryWithoutData "$failed: $(log 2)"
    until [ "$(info master_link_status)$(info master_sync_in_progress)$(info aof_rewrite_in_progress)$(info aof_rewrite_scheduled)" = up000 ]; do
        kill -0 "$pid" 2>/dev/null || end $undecided PrimaryWithoutData "$failed: $(log 2)"
        said=$(printf 'INFO replication\nPING\n' | talk "$from")
        [ "$(echo "$said" | tail -n 1)" = PONG ] || end $undecided PrimaryWithoutData "$failed, which does not answer any more"
        case $said in *role:slave*) leave_alone "$from" ;; esac # it had no time for it
        pause
    done
    ask replicaof no one >/dev/null
    [ "$want" != rdb ] || [ "$(ask save)" = OK ] || end $undecided PrimaryWithoutData "$failed: $(log 1)"
    before=$(contents)
    [ "$(ask info keyspace | lasting)" = "$expected" ] || end $undecided PrimaryWithoutData "$failed: not all of it has come"
    stop
    read_back
    least=$(sed -n 's/^min-\(replicas\|slaves\)-to-write //p' "$folder/replica.conf" | tail -n 1)
    lag=$(sed -n 's/^min-\(replicas\|slaves\)-max-lag //p' "$folder/replica.conf" | tail -n 1)
    again="REPLICAOF $primary $port\nCONFIG SET min-replicas-to-write ${least:-0}\nCONFIG SET min-replicas-max-lag ${lag:-10}\nINFO replication\n"
    tries=0
    until said=$(printf "$again" | talk "$from") && case $said in *role:slave*) ;; *) false ;; esac; do
        tries=$((tries + 1))
        if [ "$tries" = 12 ]; then
            echo "${from%%.*} does not follow again until it restarts: $(echo "$said" | head -n 3 | tr '\n' ' ')" >&2
            break
        fi
        pause
    done
    [ -z "$best_id" ] || echo "$best_id" >"$mine/id"
    old=$has_dir
    [ -n "$old" ] || old=$has_file
    commit "$kept"
}

# Holds a replica whose data are of another primary than the one that runs, and would be given up for it.
before_it_follows_another() {
    own=unknown
    while :; do
        question "$primary"
        [ "$answer" != password ] ||
            end $other_password PasswordsDiffer "${primary%%.*} has another password"
        [ "$answer" != no ] || return 0 # whether it may serve it asks its replicas, of which this is one
        mine_is=$(cat "$mine/follows" 2>/dev/null)
        [ "$has" != none ] || break
        if [ -n "$mine_is" ] && [ -n "$id" ]; then
            [ "$mine_is" != "$id" ] || return 0
        elif [ "$answer" = loading ] || [ "$keys" != 0 ]; then
            break
        fi
        [ "$(word)" != StartEmpty ] || break
        if [ "$own" = unknown ]; then
            # There may be no keys, though there are files.
            own=unread
            read_data "$databases" && own=$(ask info keyspace | counted | total) && stop && rm -rf "$work"
            [ "$own" != 0 ] || break
        fi
        wait_for_word ReplicaOfAnother "$host has data of another primary than ${primary%%.*}, which has $keys keys; to follow it would \
empty $host. To give its data up: kubectl exec $host -- sh $0 decide StartEmpty" 1
    done
    [ -z "$id" ] || echo "$id" >"$mine/follows"
}

# --- What the pod runs ---

start() {
    mkdir -p "$mine"
    trap '[ -z "$pid" ] || kill "$pid"; exit 143' TERM INT
    identify
    want
    finish
    rm -rf "$work"
    was='' was_dir='' was_file='' was_databases='' was_product='' was_version='' was_kept=''
    look
    stale=$was_kept
    if [ "$has" != none ]; then
        check=
        [ "$has $has_dir $has_file" = "$want $want_dir $want_file" ] || check=yes
        if [ -n "$was_product" ]; then
            [ "$was_product" = "$product" ] && ! is_older "$version" "$was_version" || check=yes
            [ "$databases" -ge "$was_databases" ] || check=yes
        elif grep -Eiq '^[[:space:]]*databases[[:space:]]' "$conf"; then
            check=yes
        fi
        [ -z "$check" ] || convert
    fi
    if [ "$role" = replica ]; then
        before_it_follows_another
    elif [ "$has" = none ] || [ "$stale" = no ]; then
        before_it_serves_without_data
    fi
    remember "$kept" >"$mine/form.new"
    mv "$mine/form.new" "$mine/form"
    if [ "$role" = primary ]; then
        [ -s "$mine/id" ] || od -An -N6 -tx1 /dev/urandom | tr -d ' \n' >"$mine/id"
        id=$(cat "$mine/id")
    else
        id=$(cat "$mine/follows" 2>/dev/null)
    fi
    (
        umask 077
        { cat "$conf" && echo "unixsocket $run/$host.of-$id.sock" && { cat "$run/password.conf" 2>/dev/null || :; }; } >"$run/server.conf"
    )
    [ "$conf" = "$run/$role.conf" ] || cp "$conf" "$run/$role.conf"
    rm -f "$run/word" "$run/said" "$run/temporary.conf" "$run/progress" "$run"/*.sock
    born >"$run/started"
    exec "$server-server" "$run/server.conf"
}

# When the container's first process began, which tells this container from the one before.
born() {
    sed 's/.*) //' /proc/1/stat | cut -d ' ' -f 20
}

# Writes the password as the configuration and the client read any bytes.
password() {
    [ -e "$password_file" ] || end $refused NoPassword "there is no $password_of"
    [ -s "$password_file" ] || end $refused EmptyPassword "$password_of is empty, which would let everybody in"
    umask 077
    bytes=$(od -An -v -tx1 "$password_file" | tr -d ' \n')
    text=$(printf '%s' "$bytes" | sed 's/../\\x&/g')
    printf 'requirepass "%s"\nmasterauth "%s"\n' "$text" "$text" >"$run/password.conf"
    printf 'AUTH "%s"\n' "$text" >"$run/auth"
    case $bytes in
    *0a) printf '%s: %s' PasswordEndsInNewline "$password_of ends in a newline, which is part of the password" >"$last_words" ;;
    esac
}

# Asks the server of this pod, with its password; each word may be of any bytes.
cli() {
    for one in "$@"; do
        printf '"%s" ' "$(printf '%s' "$one" | od -An -v -tx1 | tr -d ' \n' | sed 's/../\\x&/g')"
    done >"$run/cli.$$"
    echo >>"$run/cli.$$"
    if [ -e "$run/auth" ]; then
        cat "$run/auth" "$run/cli.$$" | "$server-cli" -s "$run/$host".of-*.sock | sed 1d
    else
        "$server-cli" -s "$run/$host".of-*.sock <"$run/cli.$$"
    fi
    rm -f "$run/cli.$$"
}

# Whether the server is ready. While a primary loads its data it answers, but not so. A replica that has lost its primary goes on answering
# reads, but not one that never had any of its data: the server says an offset of 1 where it has none.
ready() {
    if [ "$role" = primary ]; then
        [ "$(echo PING | here | tail -n 1)" = PONG ]
        return
    fi
    heard=$(echo INFO replication | here)
    case $heard in
    *master_link_status:up*)
        # Whose data it has by now.
        link=$(echo "$heard" | sed -n 's/^master_replid://p')
        if [ "$(cat "$run/link" 2>/dev/null)" != "$link" ]; then
            question "$primary"
            [ -z "$id" ] || { echo "$id" >"$mine/follows" && echo "$link" >"$run/link"; }
        fi
        ;;
    *slave_repl_offset:[01]*)
        case $heard in *slave_repl_offset:[01][0-9]*) ;; *) return 1 ;; esac
        ;;
    *slave_repl_offset:*) ;;
    *) return 1 ;;
    esac
}

started() {
    [ "$(cat "$run/started" 2>/dev/null)" = "$(born)" ] || {
        cat "$run/progress" 2>/dev/null
        return 1
    }
}

decide() {
    case ${1:-} in
    CopyFromReplica | StartEmpty) printf '%s' "$1" >"$run/word" ;;
    *) echo "CopyFromReplica or StartEmpty is expected" >&2 && return 1 ;;
    esac
}

mkdir -p "$run"
case ${1:-} in
start | password | ready | started) "$1" ;;
cli | decide)
    what=$1
    shift
    "$what" "$@"
    ;;
*) echo "usage: $0 start | password | ready | started | cli WORDS | decide CopyFromReplica|StartEmpty" >&2 && exit 64 ;;
esac
