//! Request bodies as files, plain and with the gRPC frame, for other load generators such as h2load.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tracescale_benches::body::{Compression, grpc_frame};
use tracescale_benches::generate::{Attributes, BASE};

use super::Shape;

/// Arguments of `bodies`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    shape: Shape,
    /// Where the files go.
    #[arg(long)]
    out: PathBuf,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    for attributes in [Attributes::Six, Attributes::Fourteen] {
        for compression in Compression::ALL {
            for grpc in [true, false] {
                println!("{}", write(args.shape, attributes, compression, grpc, &args.out)?.display());
            }
        }
    }
    Ok(())
}

/// Writes one request to a file that is named after its content.
pub(crate) fn write(shape: Shape, attributes: Attributes, compression: Compression, grpc: bool, folder: &Path) -> Result<PathBuf> {
    let template = shape.templates(attributes, 1)?.pop().context("one template was asked for")?;
    let body = compression.compress(&template.render(BASE, 0))?;
    let body = if grpc { grpc_frame(compression, &body).to_vec() } else { body };
    let protocol = if grpc { "grpc" } else { "http" };
    let path = folder.join(format!("traces-{}-{}-{protocol}.bin", attributes.count(), compression.name()));
    fs::write(&path, body).with_context(|| format!("{} cannot be written", path.display()))?;
    Ok(path)
}
