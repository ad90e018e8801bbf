//! The contract of chatledger, `proto/` at the top of the repository, compiled once for all who speak it: the service, the
//! load tester, and tests. `proto/` is where every element is described; what is here is generated.
//!
//! The build (`build.rs`) compiles the files with protox, so no protoc is needed, and gives tonic the codec of this crate
//! (`codec`), which encodes a message into a buffer of its size. [`DESCRIPTORS`] is the same contract as data.
//!
//! ```no_run
//! # async fn f() -> Result<(), Box<dyn std::error::Error>> {
//! use chatledger_protocol::{CreateSessionRequest, session_service_client::SessionServiceClient};
//!
//! let mut sessions = SessionServiceClient::connect("http://127.0.0.1:50051").await?;
//! let created = sessions.create_session(CreateSessionRequest::default()).await?;
//! # Ok(()) }
//! ```

mod codec;
mod encoded;

#[allow(clippy::all, clippy::pedantic, missing_docs)]
mod generated {
    tonic::include_proto!("chatledger.v1");
}

#[allow(clippy::all, clippy::pedantic, missing_docs)]
mod servers {
    include!(concat!(env!("OUT_DIR"), "/servers/chatledger.v1.rs"));
}

pub use encoded::Encoded;
pub use generated::*;
pub use servers::*;

/// The descriptors of the contract, for reflection and for whoever walks messages by them.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    #[test]
    fn the_descriptors_say_which_methods_are_streamed() {
        let set = prost_types::FileDescriptorSet::decode(DESCRIPTORS).expect("descriptors");
        let files = set.file.iter().filter(|file| file.package() == "chatledger.v1");
        let mut services = files.flat_map(|file| &file.service);
        let messages = services.find(|service| service.name() == "MessageService");
        let methods = &messages.expect("the service of messages").method;
        let streamed = methods.iter().filter(|method| method.client_streaming());
        let names: Vec<&str> = streamed.map(prost_types::MethodDescriptorProto::name).collect();
        assert_eq!(names, ["StreamAppendMessages"]);
    }

    #[test]
    fn a_message_is_what_its_bytes_say() {
        let request = CreateSessionRequest {
            title: Some("a title".to_owned()),
            ..CreateSessionRequest::default()
        };
        let bytes = request.encode_to_vec();
        assert_eq!(CreateSessionRequest::decode(bytes.as_slice()), Ok(request));
    }
}
