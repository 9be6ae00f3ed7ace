from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Hint(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    HINT_UNSPECIFIED: _ClassVar[Hint]
    HINT_LIST_FILES: _ClassVar[Hint]
    HINT_SHOW_FULL_IDS: _ClassVar[Hint]
    HINT_OTHER_NAME: _ClassVar[Hint]
    HINT_CHOOSE_VERSION: _ClassVar[Hint]
    HINT_RESUME: _ClassVar[Hint]
    HINT_REPEAT: _ClassVar[Hint]
    HINT_REPEAT_LATER: _ClassVar[Hint]
    HINT_LOG_IN: _ClassVar[Hint]
    HINT_LINK: _ClassVar[Hint]
    HINT_CHOOSE_BY_ID: _ClassVar[Hint]
HINT_UNSPECIFIED: Hint
HINT_LIST_FILES: Hint
HINT_SHOW_FULL_IDS: Hint
HINT_OTHER_NAME: Hint
HINT_CHOOSE_VERSION: Hint
HINT_RESUME: Hint
HINT_REPEAT: Hint
HINT_REPEAT_LATER: Hint
HINT_LOG_IN: Hint
HINT_LINK: Hint
HINT_CHOOSE_BY_ID: Hint

class Release(_message.Message):
    __slots__ = ("version", "oldest_protocol", "newest_protocol")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    OLDEST_PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    NEWEST_PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    version: str
    oldest_protocol: int
    newest_protocol: int
    def __init__(self, version: _Optional[str] = ..., oldest_protocol: _Optional[int] = ..., newest_protocol: _Optional[int] = ...) -> None: ...

class ProveRequest(_message.Message):
    __slots__ = ("nonce", "release")
    NONCE_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    nonce: bytes
    release: Release
    def __init__(self, nonce: _Optional[bytes] = ..., release: _Optional[_Union[Release, _Mapping]] = ...) -> None: ...

class ProveResponse(_message.Message):
    __slots__ = ("proof", "release")
    PROOF_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    proof: bytes
    release: Release
    def __init__(self, proof: _Optional[bytes] = ..., release: _Optional[_Union[Release, _Mapping]] = ...) -> None: ...

class LoginRequest(_message.Message):
    __slots__ = ("user", "password", "register")
    USER_FIELD_NUMBER: _ClassVar[int]
    PASSWORD_FIELD_NUMBER: _ClassVar[int]
    REGISTER_FIELD_NUMBER: _ClassVar[int]
    user: str
    password: str
    register: bool
    def __init__(self, user: _Optional[str] = ..., password: _Optional[str] = ..., register: _Optional[bool] = ...) -> None: ...

class LoginResponse(_message.Message):
    __slots__ = ("user", "registered")
    USER_FIELD_NUMBER: _ClassVar[int]
    REGISTERED_FIELD_NUMBER: _ClassVar[int]
    user: str
    registered: bool
    def __init__(self, user: _Optional[str] = ..., registered: _Optional[bool] = ...) -> None: ...

class LogoutRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class LogoutResponse(_message.Message):
    __slots__ = ("user", "notice")
    USER_FIELD_NUMBER: _ClassVar[int]
    NOTICE_FIELD_NUMBER: _ClassVar[int]
    user: str
    notice: str
    def __init__(self, user: _Optional[str] = ..., notice: _Optional[str] = ...) -> None: ...

class ChangePasswordRequest(_message.Message):
    __slots__ = ("old_password", "new_password")
    OLD_PASSWORD_FIELD_NUMBER: _ClassVar[int]
    NEW_PASSWORD_FIELD_NUMBER: _ClassVar[int]
    old_password: str
    new_password: str
    def __init__(self, old_password: _Optional[str] = ..., new_password: _Optional[str] = ...) -> None: ...

class ChangePasswordResponse(_message.Message):
    __slots__ = ("user",)
    USER_FIELD_NUMBER: _ClassVar[int]
    user: str
    def __init__(self, user: _Optional[str] = ...) -> None: ...

class UploadCommand(_message.Message):
    __slots__ = ("paths", "copies", "more", "link")
    PATHS_FIELD_NUMBER: _ClassVar[int]
    COPIES_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    LINK_FIELD_NUMBER: _ClassVar[int]
    paths: _containers.RepeatedScalarFieldContainer[str]
    copies: int
    more: bool
    link: bool
    def __init__(self, paths: _Optional[_Iterable[str]] = ..., copies: _Optional[int] = ..., more: _Optional[bool] = ..., link: _Optional[bool] = ...) -> None: ...

class DownloadCommand(_message.Message):
    __slots__ = ("names", "output", "more", "newest")
    NAMES_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    NEWEST_FIELD_NUMBER: _ClassVar[int]
    names: _containers.RepeatedScalarFieldContainer[str]
    output: str
    more: bool
    newest: bool
    def __init__(self, names: _Optional[_Iterable[str]] = ..., output: _Optional[str] = ..., more: _Optional[bool] = ..., newest: _Optional[bool] = ...) -> None: ...

class RemoveCommand(_message.Message):
    __slots__ = ("names", "more")
    NAMES_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    names: _containers.RepeatedScalarFieldContainer[str]
    more: bool
    def __init__(self, names: _Optional[_Iterable[str]] = ..., more: _Optional[bool] = ...) -> None: ...

class WatchTransferRequest(_message.Message):
    __slots__ = ("transfer",)
    TRANSFER_FIELD_NUMBER: _ClassVar[int]
    transfer: int
    def __init__(self, transfer: _Optional[int] = ...) -> None: ...

class CancelTransferRequest(_message.Message):
    __slots__ = ("transfer",)
    TRANSFER_FIELD_NUMBER: _ClassVar[int]
    transfer: int
    def __init__(self, transfer: _Optional[int] = ...) -> None: ...

class CancelTransferResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class TransferEvent(_message.Message):
    __slots__ = ("started", "progress", "results", "notice")
    STARTED_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    NOTICE_FIELD_NUMBER: _ClassVar[int]
    started: Started
    progress: Progress
    results: Results
    notice: str
    def __init__(self, started: _Optional[_Union[Started, _Mapping]] = ..., progress: _Optional[_Union[Progress, _Mapping]] = ..., results: _Optional[_Union[Results, _Mapping]] = ..., notice: _Optional[str] = ...) -> None: ...

class Started(_message.Message):
    __slots__ = ("transfer",)
    TRANSFER_FIELD_NUMBER: _ClassVar[int]
    transfer: int
    def __init__(self, transfer: _Optional[int] = ...) -> None: ...

class Progress(_message.Message):
    __slots__ = ("phase", "name", "done", "total", "files_done", "files_total", "rate", "sources")
    class Phase(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        PHASE_UNSPECIFIED: _ClassVar[Progress.Phase]
        PHASE_PREPARING: _ClassVar[Progress.Phase]
        PHASE_COPYING: _ClassVar[Progress.Phase]
        PHASE_HASHING: _ClassVar[Progress.Phase]
        PHASE_MOVING: _ClassVar[Progress.Phase]
        PHASE_WAITING: _ClassVar[Progress.Phase]
        PHASE_PUBLISHING: _ClassVar[Progress.Phase]
        PHASE_QUEUED: _ClassVar[Progress.Phase]
    PHASE_UNSPECIFIED: Progress.Phase
    PHASE_PREPARING: Progress.Phase
    PHASE_COPYING: Progress.Phase
    PHASE_HASHING: Progress.Phase
    PHASE_MOVING: Progress.Phase
    PHASE_WAITING: Progress.Phase
    PHASE_PUBLISHING: Progress.Phase
    PHASE_QUEUED: Progress.Phase
    PHASE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    FILES_DONE_FIELD_NUMBER: _ClassVar[int]
    FILES_TOTAL_FIELD_NUMBER: _ClassVar[int]
    RATE_FIELD_NUMBER: _ClassVar[int]
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    phase: Progress.Phase
    name: str
    done: int
    total: int
    files_done: int
    files_total: int
    rate: float
    sources: _containers.RepeatedCompositeFieldContainer[Source]
    def __init__(self, phase: _Optional[_Union[Progress.Phase, str]] = ..., name: _Optional[str] = ..., done: _Optional[int] = ..., total: _Optional[int] = ..., files_done: _Optional[int] = ..., files_total: _Optional[int] = ..., rate: _Optional[float] = ..., sources: _Optional[_Iterable[_Union[Source, _Mapping]]] = ...) -> None: ...

class Source(_message.Message):
    __slots__ = ("address", "rate", "bytes", "state", "reason")
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    RATE_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    address: str
    rate: float
    bytes: int
    state: str
    reason: str
    def __init__(self, address: _Optional[str] = ..., rate: _Optional[float] = ..., bytes: _Optional[int] = ..., state: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class Results(_message.Message):
    __slots__ = ("downloaded", "uploaded", "faults", "removed")
    DOWNLOADED_FIELD_NUMBER: _ClassVar[int]
    UPLOADED_FIELD_NUMBER: _ClassVar[int]
    FAULTS_FIELD_NUMBER: _ClassVar[int]
    REMOVED_FIELD_NUMBER: _ClassVar[int]
    downloaded: _containers.RepeatedCompositeFieldContainer[Downloaded]
    uploaded: _containers.RepeatedCompositeFieldContainer[Uploaded]
    faults: _containers.RepeatedCompositeFieldContainer[Fault]
    removed: _containers.RepeatedCompositeFieldContainer[Removed]
    def __init__(self, downloaded: _Optional[_Iterable[_Union[Downloaded, _Mapping]]] = ..., uploaded: _Optional[_Iterable[_Union[Uploaded, _Mapping]]] = ..., faults: _Optional[_Iterable[_Union[Fault, _Mapping]]] = ..., removed: _Optional[_Iterable[_Union[Removed, _Mapping]]] = ...) -> None: ...

class Downloaded(_message.Message):
    __slots__ = ("name", "id", "size", "path", "seconds", "holders", "resumed_bytes", "already_present", "arguments")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    HOLDERS_FIELD_NUMBER: _ClassVar[int]
    RESUMED_BYTES_FIELD_NUMBER: _ClassVar[int]
    ALREADY_PRESENT_FIELD_NUMBER: _ClassVar[int]
    ARGUMENTS_FIELD_NUMBER: _ClassVar[int]
    name: str
    id: str
    size: int
    path: str
    seconds: float
    holders: _containers.RepeatedScalarFieldContainer[str]
    resumed_bytes: int
    already_present: bool
    arguments: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, name: _Optional[str] = ..., id: _Optional[str] = ..., size: _Optional[int] = ..., path: _Optional[str] = ..., seconds: _Optional[float] = ..., holders: _Optional[_Iterable[str]] = ..., resumed_bytes: _Optional[int] = ..., already_present: _Optional[bool] = ..., arguments: _Optional[_Iterable[int]] = ...) -> None: ...

class Uploaded(_message.Message):
    __slots__ = ("name", "id", "size", "copies", "arguments")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    COPIES_FIELD_NUMBER: _ClassVar[int]
    ARGUMENTS_FIELD_NUMBER: _ClassVar[int]
    name: str
    id: str
    size: int
    copies: _containers.RepeatedScalarFieldContainer[str]
    arguments: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, name: _Optional[str] = ..., id: _Optional[str] = ..., size: _Optional[int] = ..., copies: _Optional[_Iterable[str]] = ..., arguments: _Optional[_Iterable[int]] = ...) -> None: ...

class Removed(_message.Message):
    __slots__ = ("name", "id", "size", "arguments")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    ARGUMENTS_FIELD_NUMBER: _ClassVar[int]
    name: str
    id: str
    size: int
    arguments: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, name: _Optional[str] = ..., id: _Optional[str] = ..., size: _Optional[int] = ..., arguments: _Optional[_Iterable[int]] = ...) -> None: ...

class Fault(_message.Message):
    __slots__ = ("code", "message", "name", "ids", "arguments", "hint")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    IDS_FIELD_NUMBER: _ClassVar[int]
    ARGUMENTS_FIELD_NUMBER: _ClassVar[int]
    HINT_FIELD_NUMBER: _ClassVar[int]
    code: str
    message: str
    name: str
    ids: _containers.RepeatedScalarFieldContainer[str]
    arguments: _containers.RepeatedScalarFieldContainer[int]
    hint: Hint
    def __init__(self, code: _Optional[str] = ..., message: _Optional[str] = ..., name: _Optional[str] = ..., ids: _Optional[_Iterable[str]] = ..., arguments: _Optional[_Iterable[int]] = ..., hint: _Optional[_Union[Hint, str]] = ...) -> None: ...

class ListFilesRequest(_message.Message):
    __slots__ = ("match",)
    MATCH_FIELD_NUMBER: _ClassVar[int]
    match: str
    def __init__(self, match: _Optional[str] = ...) -> None: ...

class ListFilesResponse(_message.Message):
    __slots__ = ("files",)
    FILES_FIELD_NUMBER: _ClassVar[int]
    files: _containers.RepeatedCompositeFieldContainer[ListedFile]
    def __init__(self, files: _Optional[_Iterable[_Union[ListedFile, _Mapping]]] = ...) -> None: ...

class ListedFile(_message.Message):
    __slots__ = ("name", "id", "size", "holders", "partial", "modified", "executable")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    HOLDERS_FIELD_NUMBER: _ClassVar[int]
    PARTIAL_FIELD_NUMBER: _ClassVar[int]
    MODIFIED_FIELD_NUMBER: _ClassVar[int]
    EXECUTABLE_FIELD_NUMBER: _ClassVar[int]
    name: str
    id: str
    size: int
    holders: int
    partial: int
    modified: float
    executable: bool
    def __init__(self, name: _Optional[str] = ..., id: _Optional[str] = ..., size: _Optional[int] = ..., holders: _Optional[int] = ..., partial: _Optional[int] = ..., modified: _Optional[float] = ..., executable: _Optional[bool] = ...) -> None: ...

class ListPeersRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListPeersResponse(_message.Message):
    __slots__ = ("peers",)
    PEERS_FIELD_NUMBER: _ClassVar[int]
    peers: _containers.RepeatedCompositeFieldContainer[ListedPeer]
    def __init__(self, peers: _Optional[_Iterable[_Union[ListedPeer, _Mapping]]] = ...) -> None: ...

class ListedPeer(_message.Message):
    __slots__ = ("address", "user", "files", "last_seen", "load")
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    LAST_SEEN_FIELD_NUMBER: _ClassVar[int]
    LOAD_FIELD_NUMBER: _ClassVar[int]
    address: str
    user: str
    files: int
    last_seen: float
    load: Load
    def __init__(self, address: _Optional[str] = ..., user: _Optional[str] = ..., files: _Optional[int] = ..., last_seen: _Optional[float] = ..., load: _Optional[_Union[Load, _Mapping]] = ...) -> None: ...

class Load(_message.Message):
    __slots__ = ("uploads", "downloads", "free_bytes", "rate")
    UPLOADS_FIELD_NUMBER: _ClassVar[int]
    DOWNLOADS_FIELD_NUMBER: _ClassVar[int]
    FREE_BYTES_FIELD_NUMBER: _ClassVar[int]
    RATE_FIELD_NUMBER: _ClassVar[int]
    uploads: int
    downloads: int
    free_bytes: int
    rate: float
    def __init__(self, uploads: _Optional[int] = ..., downloads: _Optional[int] = ..., free_bytes: _Optional[int] = ..., rate: _Optional[float] = ...) -> None: ...

class StatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StatusResponse(_message.Message):
    __slots__ = ("user", "address", "tracker", "shared_dir", "state_dir", "files", "bytes", "quota_used", "quota", "tracker_reached", "tracker_fault", "not_shared", "not_shared_total", "transfers", "faults", "ignored_files", "ignored_folders")
    USER_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    TRACKER_FIELD_NUMBER: _ClassVar[int]
    SHARED_DIR_FIELD_NUMBER: _ClassVar[int]
    STATE_DIR_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    QUOTA_USED_FIELD_NUMBER: _ClassVar[int]
    QUOTA_FIELD_NUMBER: _ClassVar[int]
    TRACKER_REACHED_FIELD_NUMBER: _ClassVar[int]
    TRACKER_FAULT_FIELD_NUMBER: _ClassVar[int]
    NOT_SHARED_FIELD_NUMBER: _ClassVar[int]
    NOT_SHARED_TOTAL_FIELD_NUMBER: _ClassVar[int]
    TRANSFERS_FIELD_NUMBER: _ClassVar[int]
    FAULTS_FIELD_NUMBER: _ClassVar[int]
    IGNORED_FILES_FIELD_NUMBER: _ClassVar[int]
    IGNORED_FOLDERS_FIELD_NUMBER: _ClassVar[int]
    user: str
    address: str
    tracker: str
    shared_dir: str
    state_dir: str
    files: int
    bytes: int
    quota_used: int
    quota: int
    tracker_reached: bool
    tracker_fault: str
    not_shared: _containers.RepeatedCompositeFieldContainer[NotShared]
    not_shared_total: int
    transfers: _containers.RepeatedCompositeFieldContainer[TransferStatus]
    faults: _containers.RepeatedScalarFieldContainer[str]
    ignored_files: int
    ignored_folders: int
    def __init__(self, user: _Optional[str] = ..., address: _Optional[str] = ..., tracker: _Optional[str] = ..., shared_dir: _Optional[str] = ..., state_dir: _Optional[str] = ..., files: _Optional[int] = ..., bytes: _Optional[int] = ..., quota_used: _Optional[int] = ..., quota: _Optional[int] = ..., tracker_reached: _Optional[bool] = ..., tracker_fault: _Optional[str] = ..., not_shared: _Optional[_Iterable[_Union[NotShared, _Mapping]]] = ..., not_shared_total: _Optional[int] = ..., transfers: _Optional[_Iterable[_Union[TransferStatus, _Mapping]]] = ..., faults: _Optional[_Iterable[str]] = ..., ignored_files: _Optional[int] = ..., ignored_folders: _Optional[int] = ...) -> None: ...

class NotShared(_message.Message):
    __slots__ = ("name", "reason", "pending")
    NAME_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    PENDING_FIELD_NUMBER: _ClassVar[int]
    name: str
    reason: str
    pending: bool
    def __init__(self, name: _Optional[str] = ..., reason: _Optional[str] = ..., pending: _Optional[bool] = ...) -> None: ...

class TransferStatus(_message.Message):
    __slots__ = ("transfer", "kind", "progress")
    TRANSFER_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    transfer: int
    kind: str
    progress: Progress
    def __init__(self, transfer: _Optional[int] = ..., kind: _Optional[str] = ..., progress: _Optional[_Union[Progress, _Mapping]] = ...) -> None: ...

class Block(_message.Message):
    __slots__ = ("number", "offset", "data")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    number: int
    offset: int
    data: bytes
    def __init__(self, number: _Optional[int] = ..., offset: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class GetManifestRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Manifest(_message.Message):
    __slots__ = ("size", "piece_length", "digests")
    SIZE_FIELD_NUMBER: _ClassVar[int]
    PIECE_LENGTH_FIELD_NUMBER: _ClassVar[int]
    DIGESTS_FIELD_NUMBER: _ClassVar[int]
    size: int
    piece_length: int
    digests: bytes
    def __init__(self, size: _Optional[int] = ..., piece_length: _Optional[int] = ..., digests: _Optional[bytes] = ...) -> None: ...

class PieceRequest(_message.Message):
    __slots__ = ("pieces", "block_length", "cancel")
    PIECES_FIELD_NUMBER: _ClassVar[int]
    BLOCK_LENGTH_FIELD_NUMBER: _ClassVar[int]
    CANCEL_FIELD_NUMBER: _ClassVar[int]
    pieces: _containers.RepeatedScalarFieldContainer[int]
    block_length: int
    cancel: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, pieces: _Optional[_Iterable[int]] = ..., block_length: _Optional[int] = ..., cancel: _Optional[_Iterable[int]] = ...) -> None: ...

class PieceResponse(_message.Message):
    __slots__ = ("blocks", "have")
    BLOCKS_FIELD_NUMBER: _ClassVar[int]
    HAVE_FIELD_NUMBER: _ClassVar[int]
    blocks: _containers.RepeatedCompositeFieldContainer[Block]
    have: Have
    def __init__(self, blocks: _Optional[_Iterable[_Union[Block, _Mapping]]] = ..., have: _Optional[_Union[Have, _Mapping]] = ...) -> None: ...

class Have(_message.Message):
    __slots__ = ("complete", "bitmap", "gained", "in_flight")
    COMPLETE_FIELD_NUMBER: _ClassVar[int]
    BITMAP_FIELD_NUMBER: _ClassVar[int]
    GAINED_FIELD_NUMBER: _ClassVar[int]
    IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    complete: bool
    bitmap: bytes
    gained: _containers.RepeatedScalarFieldContainer[int]
    in_flight: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, complete: _Optional[bool] = ..., bitmap: _Optional[bytes] = ..., gained: _Optional[_Iterable[int]] = ..., in_flight: _Optional[_Iterable[int]] = ...) -> None: ...

class DownloadSmallFilesRequest(_message.Message):
    __slots__ = ("requests",)
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    requests: _containers.RepeatedCompositeFieldContainer[SmallFileRequest]
    def __init__(self, requests: _Optional[_Iterable[_Union[SmallFileRequest, _Mapping]]] = ...) -> None: ...

class SmallFileRequest(_message.Message):
    __slots__ = ("number", "ticket")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    TICKET_FIELD_NUMBER: _ClassVar[int]
    number: int
    ticket: str
    def __init__(self, number: _Optional[int] = ..., ticket: _Optional[str] = ...) -> None: ...

class DownloadSmallFilesResponse(_message.Message):
    __slots__ = ("blocks", "faults")
    BLOCKS_FIELD_NUMBER: _ClassVar[int]
    FAULTS_FIELD_NUMBER: _ClassVar[int]
    blocks: _containers.RepeatedCompositeFieldContainer[Block]
    faults: _containers.RepeatedCompositeFieldContainer[SmallFileFault]
    def __init__(self, blocks: _Optional[_Iterable[_Union[Block, _Mapping]]] = ..., faults: _Optional[_Iterable[_Union[SmallFileFault, _Mapping]]] = ...) -> None: ...

class SmallFileFault(_message.Message):
    __slots__ = ("number", "code", "message")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    number: int
    code: str
    message: str
    def __init__(self, number: _Optional[int] = ..., code: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class PushRequest(_message.Message):
    __slots__ = ("blocks", "offer")
    BLOCKS_FIELD_NUMBER: _ClassVar[int]
    OFFER_FIELD_NUMBER: _ClassVar[int]
    blocks: _containers.RepeatedCompositeFieldContainer[Block]
    offer: Offer
    def __init__(self, blocks: _Optional[_Iterable[_Union[Block, _Mapping]]] = ..., offer: _Optional[_Union[Offer, _Mapping]] = ...) -> None: ...

class Offer(_message.Message):
    __slots__ = ("name", "manifest", "modified", "executable")
    NAME_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_FIELD_NUMBER: _ClassVar[int]
    MODIFIED_FIELD_NUMBER: _ClassVar[int]
    EXECUTABLE_FIELD_NUMBER: _ClassVar[int]
    name: str
    manifest: Manifest
    modified: float
    executable: bool
    def __init__(self, name: _Optional[str] = ..., manifest: _Optional[_Union[Manifest, _Mapping]] = ..., modified: _Optional[float] = ..., executable: _Optional[bool] = ...) -> None: ...

class PushResponse(_message.Message):
    __slots__ = ("pieces", "block_length", "verified", "published", "named")
    PIECES_FIELD_NUMBER: _ClassVar[int]
    BLOCK_LENGTH_FIELD_NUMBER: _ClassVar[int]
    VERIFIED_FIELD_NUMBER: _ClassVar[int]
    PUBLISHED_FIELD_NUMBER: _ClassVar[int]
    NAMED_FIELD_NUMBER: _ClassVar[int]
    pieces: _containers.RepeatedScalarFieldContainer[int]
    block_length: int
    verified: int
    published: bool
    named: bool
    def __init__(self, pieces: _Optional[_Iterable[int]] = ..., block_length: _Optional[int] = ..., verified: _Optional[int] = ..., published: _Optional[bool] = ..., named: _Optional[bool] = ...) -> None: ...

class UploadSmallFilesRequest(_message.Message):
    __slots__ = ("blocks", "offers")
    BLOCKS_FIELD_NUMBER: _ClassVar[int]
    OFFERS_FIELD_NUMBER: _ClassVar[int]
    blocks: _containers.RepeatedCompositeFieldContainer[Block]
    offers: _containers.RepeatedCompositeFieldContainer[SmallFileOffer]
    def __init__(self, blocks: _Optional[_Iterable[_Union[Block, _Mapping]]] = ..., offers: _Optional[_Iterable[_Union[SmallFileOffer, _Mapping]]] = ...) -> None: ...

class SmallFileOffer(_message.Message):
    __slots__ = ("number", "name", "size", "ticket", "modified", "executable")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    TICKET_FIELD_NUMBER: _ClassVar[int]
    MODIFIED_FIELD_NUMBER: _ClassVar[int]
    EXECUTABLE_FIELD_NUMBER: _ClassVar[int]
    number: int
    name: str
    size: int
    ticket: str
    modified: float
    executable: bool
    def __init__(self, number: _Optional[int] = ..., name: _Optional[str] = ..., size: _Optional[int] = ..., ticket: _Optional[str] = ..., modified: _Optional[float] = ..., executable: _Optional[bool] = ...) -> None: ...

class UploadSmallFilesResponse(_message.Message):
    __slots__ = ("verdicts",)
    VERDICTS_FIELD_NUMBER: _ClassVar[int]
    verdicts: _containers.RepeatedCompositeFieldContainer[SmallFileVerdict]
    def __init__(self, verdicts: _Optional[_Iterable[_Union[SmallFileVerdict, _Mapping]]] = ...) -> None: ...

class SmallFileVerdict(_message.Message):
    __slots__ = ("number", "verdict", "code", "message", "named")
    class Verdict(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        VERDICT_UNSPECIFIED: _ClassVar[SmallFileVerdict.Verdict]
        VERDICT_WANTED: _ClassVar[SmallFileVerdict.Verdict]
        VERDICT_PUBLISHED: _ClassVar[SmallFileVerdict.Verdict]
        VERDICT_REFUSED: _ClassVar[SmallFileVerdict.Verdict]
    VERDICT_UNSPECIFIED: SmallFileVerdict.Verdict
    VERDICT_WANTED: SmallFileVerdict.Verdict
    VERDICT_PUBLISHED: SmallFileVerdict.Verdict
    VERDICT_REFUSED: SmallFileVerdict.Verdict
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    NAMED_FIELD_NUMBER: _ClassVar[int]
    number: int
    verdict: SmallFileVerdict.Verdict
    code: str
    message: str
    named: bool
    def __init__(self, number: _Optional[int] = ..., verdict: _Optional[_Union[SmallFileVerdict.Verdict, str]] = ..., code: _Optional[str] = ..., message: _Optional[str] = ..., named: _Optional[bool] = ...) -> None: ...
